"""What a build for a Neuron target needs to know before it starts; wrong settings stop it there."""

from dataclasses import dataclass

from neuronc.recipe import Recipe
from neuronc.targets.neuron.chips import neuron_target
from neuronc.targets.neuron.compiler.command import CompilerArgs, compiler_args
from neuronc.targets.neuron.compiler.toolchain import Compiler, find_compiler

NOT_ON_HARDWARE = "not run on a Neuron device"


@dataclass(frozen=True, kw_only=True, slots=True)
class CompileOptions:
    """How to go about a build.

    Attributes:
        lower_only: Stop before neuronx-cc: the result is a bundle.
        config_only: Take the checkpoint's config and nothing else; needs ``lower_only``.
        allow_env_flags: Let NEURON_CC_FLAGS take part: it is added to the arguments.
        num_parallel: Programs that are made at once; None leaves it to cores and memory.
        timeout_s: Wall time one run of neuronx-cc may take.
        frozen: Refuse to compile anything: all has to be in the store.
        ray_address: Of a Ray cluster that compiles; None for this machine.
    """

    lower_only: bool = False
    config_only: bool = False
    allow_env_flags: bool = False
    num_parallel: int | None = None
    timeout_s: float = 4 * 3600.0
    frozen: bool = False
    ray_address: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NeuronSettings:
    """Target, flags and compiler of one build.

    Attributes:
        target: As neuronx-cc takes it.
        flags: Arguments by phase, and the logical core size.
        compiler: None when only lowering.
    """

    target: str
    flags: CompilerArgs
    compiler: Compiler | None

    def describe(self) -> dict[str, object]:
        """The ``neuron`` section of a manifest."""
        return {
            "lnc": self.flags.lnc,
            "args": {phase: list(args) for phase, args in self.flags.by_phase.items()},
            "neuron_cc_flags": list(self.flags.env_args),
            "compiler": None,
            "hardware": NOT_ON_HARDWARE,
        }


def neuron_settings(recipe: Recipe, options: CompileOptions) -> NeuronSettings:
    """Settings for ``recipe``; starts neuronx-cc once, for its version.

    Raises:
        PlanError: the target has no logical cores of that size.
        UsageError: arguments that may not be given.
        ToolchainError: no usable neuronx-cc, where one is needed.
    """
    _, lnc = neuron_target(recipe.target, recipe.lnc)
    flags = compiler_args(
        recipe.target, lnc, recipe.cc_args, allow_env_flags=options.allow_env_flags
    )
    compiler = None if options.lower_only else find_compiler()
    return NeuronSettings(target=recipe.target, flags=flags, compiler=compiler)
