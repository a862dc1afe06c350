"""Against moto's real server; s3fs finds it by AWS_ENDPOINT_URL."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.errors import InputError


def _upload(bucket: Any, folder: Path) -> str:
    for file in folder.iterdir():
        bucket.upload_file(str(file), f"team/{folder.name}/{file.name}")
    return f"s3://models/team/{folder.name}"


@pytest.mark.parametrize("which", ["folder", "sharded_folder"])
def test_tensors_are_the_local_reader_s(
    request: pytest.FixtureRequest, bucket: Any, arrays: Any, which: str
) -> None:
    url = _upload(bucket, request.getfixturevalue(which))
    checkpoint: Any = open_checkpoint(f"{url}/")
    assert checkpoint.source == url
    for name, array in arrays.items():
        assert checkpoint.reader.read(name).tobytes() == array.tobytes()
    rows = checkpoint.reader.read_range("model.a.weight", 1, 3)
    assert rows.tobytes() == arrays["model.a.weight"][1:3].tobytes()


def test_an_object_that_changed_after_opening_is_refused(
    bucket: Any, folder: Path, arrays: Any
) -> None:
    checkpoint = open_checkpoint(_upload(bucket, folder))
    save_file({name: array + 1 for name, array in arrays.items()}, folder / "model.safetensors")
    _upload(bucket, folder)
    with pytest.raises(InputError, match=r"s3://models/team/model/model.safetensors changed"):
        checkpoint.reader.read("model.b.weight")


def test_an_object_that_became_shorter_is_refused(bucket: Any, folder: Path) -> None:
    checkpoint = open_checkpoint(_upload(bucket, folder))
    save_file({"x": np.zeros(1, np.uint8)}, folder / "model.safetensors")
    _upload(bucket, folder)
    with pytest.raises(InputError, match="changed after it was opened"):
        checkpoint.reader.read("model.a.weight")


@pytest.mark.parametrize("url", ["s3://models/nothing", "s3://no-such-bucket/x"])
def test_what_is_not_there_is_named(bucket: Any, url: str) -> None:
    with pytest.raises(InputError, match=rf"there is no {url}/config.json \(404\)"):
        open_checkpoint(url)


def test_missing_credentials_are_an_input_error_with_the_way_out(
    bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(InputError, match=r"cannot read s3://models/x/config.json") as caught:
        open_checkpoint("s3://models/x")
    assert "AWS_PROFILE" in caught.value.hint


def test_an_answer_of_403_is_named(bucket: Any, folder: Path, monkeypatch: Any) -> None:
    import s3fs
    from botocore.exceptions import ClientError

    checkpoint = open_checkpoint(_upload(bucket, folder))
    response = {"Error": {"Code": "403"}, "ResponseMetadata": {"HTTPStatusCode": 403}}

    async def deny(*args: object, **options: object) -> Any:
        raise PermissionError("Forbidden") from ClientError(response, "HeadObject")  # noqa: EM101

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", deny)
    with pytest.raises(InputError, match=r"access to s3://models/team.* is denied \(403\)"):
        checkpoint.reader.read("model.a.weight")
