"""How a checkpoint is to be split."""

from dataclasses import dataclass

from neuronc.errors import UsageError
from neuronc.parallel.layouts.names import LAYOUTS, Layout


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitOptions:
    """What of a split is free to choose besides ranks and element type.

    Attributes:
        layout: Which files to write.
        link: Write no weights; say where they lie in the checkpoint.
        max_memory_bytes: Of the whole process; None is no limit.
        max_file_bytes: Of a weight file; a rank that needs more gets several. None is no limit.
    """

    layout: Layout = "neuronc"
    link: bool = False
    max_memory_bytes: int | None = None
    max_file_bytes: int | None = None

    def check(self, tp: int, quantize: str | None) -> None:
        """Raise `UsageError` for options that contradict each other."""
        if self.layout not in LAYOUTS:
            message = f"expected layout {', '.join(LAYOUTS)}; found {self.layout!r}"
            raise UsageError(message, hint="choose one with --layout")
        if self.layout == "transformers-neuronx" and tp != 1:
            message = f"layout {self.layout} holds whole tensors; it cannot be split over tp={tp}"
            raise UsageError(message, hint="leave out --tp, or choose another --layout")
        if quantize is not None and self.link:
            message = f"--quantize {quantize} and --link, which leaves the weights as they are"
            raise UsageError(message, hint="leave out one of them")
        if quantize is not None and self.layout != "neuronc":
            message = (
                f"layout {self.layout} has no form for --quantize {quantize}: it has no scales"
            )
            raise UsageError(message, hint="leave out --quantize, or use --layout neuronc")
        if self.link and self.max_file_bytes is not None:
            message = "--max-file-size and --link, which writes no weight files"
            raise UsageError(message, hint="leave out one of them")
        for option, value in (("--link", self.link), ("--max-file-size", self.max_file_bytes)):
            if value and self.layout != "neuronc":
                message = f"{option} and layout {self.layout}, whose readers know whole files only"
                raise UsageError(message, hint=f"leave out {option}, or --layout")


DEFAULT_SPLIT = SplitOptions()
