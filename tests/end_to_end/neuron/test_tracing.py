"""--tracer torch-neuronx: what the package is asked for, with its double."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neuronc.cli.app import main
from neuronc.errors import InputError, ToolchainError, UsageError
from neuronc.recipe import Recipe
from neuronc.targets.neuron.torchscript import trace_torchscript
from tests.neuron_doubles import nrtpy_site


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=64,
        max_position_embeddings=32,
    )
    folder = tmp_path_factory.mktemp("encoder") / "tiny-bert"
    BertModel(config).eval().save_pretrained(folder)
    return folder


@pytest.fixture
def _torch_neuronx(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(nrtpy_site()))
    yield
    sys.modules.pop("torch_neuronx", None)


@pytest.mark.usefixtures("_torch_neuronx")
@pytest.mark.filterwarnings("ignore")  # the double traces with plain torch, which warns of itself
def test_model_is_traced_with_the_documented_arguments_and_loads_again(
    encoder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch
    from transformers import AutoModel

    out = tmp_path / "out"
    argv = ["compile", str(encoder), "-o", str(out), "--tracer", "torch-neuronx"]
    argv += ["--target", "inf2", "--batch-size", "2", "--max-length", "8", "--json"]
    assert main([*argv, "--cc-arg", "--enable-saturate-infinity"]) == 0
    data = json.loads(capfd.readouterr().out)["data"]
    assert data["inputs"] == [["input_ids", [2, 8]], ["attention_mask", [2, 8]]]
    assert data["outputs"] == [[2, 8, 16], [2, 16]]
    assert (data["stand_in"], data["hardware"]) == (True, "not run on a Neuron device")
    args = json.loads((tmp_path / "torch_neuronx_args.json").read_text())
    assert args == data["compiler_args"]
    assert args[0] == "--target=inf2"
    assert args[-1] == "--enable-saturate-infinity"
    ids = torch.arange(16).reshape(2, 8)
    mask = torch.ones_like(ids)
    model = AutoModel.from_pretrained(encoder)
    expected = model(input_ids=ids, attention_mask=mask).last_hidden_state
    load: Any = torch.jit.load
    found = load(str(out / "model.pt"))(ids, mask)[0]
    torch.testing.assert_close(found, expected)
    assert sorted(p.name for p in out.iterdir()) == ["config.json", "model.pt", "trace.json"]


@pytest.mark.usefixtures("_torch_neuronx")
def test_failing_trace_leaves_nothing(
    encoder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    argv = ["compile", str(encoder), "-o", str(tmp_path / "out"), "--tracer", "torch-neuronx"]
    assert main([*argv, "--target", "inf2", "--cc-arg", "nonsense", "--json"]) == 7
    told = json.loads(capfd.readouterr().out)["error"]["message"]
    assert "NCC_EARG002] illegal argument nonsense" in told
    assert not (tmp_path / "out").exists()


def test_absent_package_is_exit_5_with_the_way_to_get_it(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="torch-neuronx is not installed") as caught:
        trace_torchscript(Recipe(checkpoint=str(encoder), target="inf2"), tmp_path / "out")
    assert "pip install --extra-index-url" in caught.value.hint


@pytest.mark.usefixtures("_torch_neuronx")
def test_a_url_is_refused_because_transformers_reads_no_url(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which reads no URL") as caught:
        trace_torchscript(Recipe(checkpoint="https://h/a?PASS", target="inf2"), tmp_path / "out")
    assert "copy the checkpoint" in caught.value.hint


def test_ambient_flags_are_refused(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURON_CC_FLAGS", "-O1")
    with pytest.raises(UsageError, match="NEURON_CC_FLAGS is set"):
        trace_torchscript(Recipe(checkpoint=str(encoder), target="inf2"), tmp_path / "out")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--target", "inf2", "--tp", "2"), "--tp 2"),
        ((), "--target cpu"),
        (("--target", "inf2", "--prefill-buckets", "8"), "--prefill-buckets"),
        (("--target", "inf2", "--lower-only"), "--lower-only"),
    ],
)
def test_what_one_core_cannot_have_is_refused(
    encoder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    argv: tuple[str, ...],
    told: str,
) -> None:
    base = ["compile", str(encoder), "-o", str(tmp_path / "out"), "--tracer", "torch-neuronx"]
    assert main([*base, *argv, "--json"]) == 2
    assert told in json.loads(capfd.readouterr().out)["error"]["message"]


@pytest.mark.usefixtures("_torch_neuronx")
@pytest.mark.filterwarnings("ignore")
def test_a_decoder_is_traced_as_well(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    argv = ["compile", str(tiny_checkpoint), "-o", str(tmp_path / "out"), "--target", "inf2"]
    assert main([*argv, "--tracer", "torch-neuronx", "--max-length", "8", "--json"]) == 0
    data = json.loads(capfd.readouterr().out)["data"]
    assert data["outputs"][0] == [1, 8, 128]
