"""From an exception inside a model to an error that names the operator, its module, and the line."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from neuronc.errors import CompilerError, NeuroncError

_HINT = "neuronc does not support this family yet; `neuronc models` lists those it does"
_OF_PYTHON_PACKAGES = "/site-packages/"
_OWN = str(Path(__file__).parents[1])


@contextmanager
def naming_errors(model: Any) -> Iterator[None]:
    """Within, what ``model`` raises becomes a `CompilerError` with its place in the model.

    Raises:
        CompilerError: the model cannot be traced.
    """
    try:
        yield
    except NeuroncError:
        raise
    except Exception as error:
        raise _trace_error(error, model) from error


def _trace_error(error: Exception, model: Any) -> CompilerError:
    frames = list(traceback.walk_tb(error.__traceback__))
    names = {id(module): name for name, module in model.named_modules()}
    modules = [names[own] for frame, _ in frames if (own := _self(frame)) in names]
    lines = [(frame.f_code.co_filename, line) for frame, line in frames]
    places = [f"{_short(file)}:{line}" for file, line in lines if _is_a_models(file)]
    operator = getattr(error, "func", None)  # of torch's exceptions about one
    module = modules[-1] if modules else ""
    of_module = module and (f" of {module}" if operator else f"module {module}")
    subject = f"operator {operator}".removesuffix(".default") if operator else ""
    at_line = f" at {places[-1]}" if places else ""
    told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    message = f"{subject + of_module or 'the model'}{at_line} cannot be traced: {told}"
    return CompilerError(message, hint=_HINT)


def _self(frame: FrameType) -> int:
    return id(frame.f_locals.get("self"))


def _is_a_models(file: str) -> bool:
    """Whether ``file`` is none of torch's, ours, or of transformers' caches and masks."""
    is_torchs = f"{_OF_PYTHON_PACKAGES}torch/" in file
    is_shared = f"{_OF_PYTHON_PACKAGES}transformers/" in file and "/models/" not in file
    return not (is_torchs or is_shared or file.startswith((_OWN, "<")))


def _short(path: str) -> str:
    return path.rpartition(_OF_PYTHON_PACKAGES)[2]
