"""What the numbers of the Neuron runtime mean. Source: Neuron SDK, ``nrt/nrt_status.h``."""

from typing import Literal

Kind = Literal["memory", "input", "toolchain", "device"]

_STATUS: dict[int, tuple[str, Kind]] = {
    1: ("the runtime failed without saying why", "toolchain"),
    2: ("invalid argument", "input"),
    3: ("invalid handle", "device"),
    4: ("no device memory or other resource left", "memory"),
    5: ("timeout", "device"),
    6: ("hardware error, or a NEFF for another chip", "device"),
    7: ("queue full", "device"),
    9: ("not enough NeuronCores to load on", "memory"),
    10: ("NEFF of a version this runtime does not read", "toolchain"),
    11: ("no host memory left", "memory"),
    13: ("runtime not initialised: no Neuron device, or in use by another process", "toolchain"),
    14: ("runtime closed", "device"),
    15: ("queue empty", "device"),
    101: ("a core is in a state it cannot leave", "device"),
    1002: ("an input is missing, of another size, or on another core", "input"),
    1003: ("ran with numerical errors", "device"),
    1004: ("ran with errors", "device"),
    1005: ("the core is in use", "toolchain"),
    1006: ("an index of a gather or scatter is out of bounds", "input"),
    1100: ("a collective is still pending", "device"),
    1200: ("hardware error in collectives", "device"),
    1201: ("device memory error that cannot be corrected", "device"),
    1202: ("core memory error that cannot be corrected", "device"),
    1203: ("a DMA was aborted", "device"),
    1204: ("notification queue overflow", "device"),
    1205: ("device memory error that a repair can fix", "device"),
    1206: ("network proxy failed", "device"),
}
_HINTS: dict[Kind, str] = {
    "memory": "use a higher --tp, a smaller batch or max length, or free the cores: neuron-ls",
    "input": "compile the artifact again; if it stays, report it with this message",
    "toolchain": "run neuronc doctor; see which process holds the cores with neuron-ls",
    "device": "look at dmesg and neuron-top; a reboot of the instance may help",
}


def describe_status(number: int | None) -> tuple[str, str, Kind]:
    """Meaning of a status, what to do, and what kind of trouble it is."""
    meaning, kind = _STATUS.get(number or 0, ("a status that is not documented", "device"))
    return meaning, _HINTS[kind], kind
