"""A LoRA adapter on its way through the verbs."""

import json
from pathlib import Path

import pytest

from neuronc.cli.app import main
from tests.end_to_end.test_commands import SIZES, run_ok, run_refused
from tests.tiny_adapters import A, named, write_adapter


def test_split_reports_the_adapter_that_it_merged(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(tmp_path / "chat")
    argv = ["split", str(tiny_checkpoint), "--adapter", str(adapter)]

    data = run_ok(capfd, *argv, "-o", str(tmp_path / "one"))
    assert main([*argv, "-o", str(tmp_path / "two"), "--quiet"]) == 0

    assert data["adapter"]["name"] == "chat"
    assert "chat" in capfd.readouterr().out
    code, told = run_refused(capfd, *argv[:3], str(tmp_path / "no"), "-o", str(tmp_path / "x"))
    assert code == 3
    assert "there is no such folder" in told
    assert not (tmp_path / "x").exists()


def test_unsplit_says_that_an_adapter_stays_merged(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    adapter, out = str(write_adapter(tmp_path / "chat")), str(tmp_path / "split")
    run_ok(capfd, "split", str(tiny_checkpoint), "--adapter", adapter, "-o", out)
    assert main(["unsplit", out, "-o", str(tmp_path / "back"), "--json", "--quiet"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["data"]["adapter"] == "chat"
    assert any("adapter chat is merged" in warning for warning in document["warnings"])


def test_split_of_safetensors_imports_no_framework(tiny_checkpoint: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    adapter = write_adapter(tmp_path / "chat")
    argv = ["split", str(tiny_checkpoint), "--adapter", str(adapter), "-o", str(tmp_path / "out")]
    program = (
        "import sys\n"
        "for name in ('torch', 'jax', 'peft'): sys.modules[name] = None\n"
        "from neuronc.cli.app import main\n"
        f"sys.exit(main({argv!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_build_with_an_adapter_is_verified_with_it_and_kept_until_it_changes(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(tmp_path / "chat")
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(f'checkpoint = "{tiny_checkpoint}"\nadapter = "chat"\ntp = 2\n')
    argv = ("build", str(recipe), "-o", str(tmp_path / "artifact"), *SIZES)

    first = run_ok(capfd, *argv)

    assert first["verification"]["passed"]
    assert first["verification"]["reference"].endswith("with adapter chat")
    assert first["weights"]["adapter"]["name"] == "chat"
    assert run_ok(capfd, *argv)["reused"]
    recipe.write_text(recipe.read_text().replace('adapter = "chat"\n', ""))
    code, told = run_refused(capfd, *argv)
    assert code == 2
    assert "adapter was" in told
    recipe.write_text(f'adapter = "chat"\n{recipe.read_text()}')
    (adapter / "adapter_config.json").unlink()
    (adapter / "adapter_model.safetensors").unlink()
    adapter.rmdir()
    write_adapter(tmp_path / "chat", named("model.layers.1.mlp.up_proj", A * 2))
    code, told = run_refused(capfd, *argv)
    assert code == 2
    assert "adapter_files was" in told
    assert json.loads((tmp_path / "artifact" / "manifest.json").read_text())["verification"]
