"""How a rank is cut into files of a size."""

import re
from pathlib import Path

import pytest

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.errors import PlanError, UsageError
from neuronc.parallel.split_options import SplitOptions
from neuronc.parallel.split_tensors import split_checkpoint
from tests.tiny_models import make_checkpoint


def split(source: Path, out: Path, options: SplitOptions) -> None:
    out.mkdir()
    split_checkpoint(open_checkpoint(str(source)), out, tp=2, dtype="auto", options=options)


def test_the_size_that_a_refusal_names_is_enough_and_kept(tmp_path: Path) -> None:
    # the embedding, which comes first, is not the largest
    source = make_checkpoint(tmp_path / "in", intermediate_size=400, tokenizer=False)
    with pytest.raises(PlanError, match="--max-file-size is 7000") as caught:
        split(source, tmp_path / "refused", SplitOptions(max_file_bytes=7000))
    found = re.fullmatch(r"pass --max-file-size (\d+) or more", caught.value.hint)
    assert found is not None
    split(source, tmp_path / "out", SplitOptions(max_file_bytes=int(found[1])))
    sizes = [path.stat().st_size for path in (tmp_path / "out").glob("rank-*.safetensors")]
    assert len(sizes) > 4
    assert max(sizes) <= int(found[1])


def test_a_link_has_no_files_of_a_size(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--max-file-size and --link"):
        split(tiny_llama, tmp_path / "out", SplitOptions(link=True, max_file_bytes=10**6))
