import re

import pytest

from neuronc.errors import InputError
from neuronc.targets.neuron.error_codes import codes_in, error_codes, find_code

# Every code that has a page in AWS Neuron SDK 2.32, compiler/error-codes.
DOCUMENTED = re.findall(
    r"\w+",
    "EARG001 EBIR023 EBVF030 EHCA005 EMOD025 EOOM001 EOOM002 ESFH002 ESPP004 ESPP047 EUOC002"
    " EVRF001 EVRF004 EVRF005 EVRF006 EVRF007 EVRF009 EVRF010 EVRF011 EVRF013 EVRF015 EVRF016"
    " EVRF017 EVRF018 EVRF019 EVRF022 EVRF031 EVRF035 EVRF036 EVRF037 EVRF038 EVRF039 EVRF040"
    " EVRF041 EVRF042 EVRF043 EVRF044 EVRF045 EVRF046 EVRF047 EVRF048 EVRF049 EVRF050 EVRF051"
    " EVRF052 EVRF053 EVRF054 EVRF055 EVRF056 EVRF057 EVRF058 EVRF059 EVRF060 EVRF061 EVRF062"
    " EVRF063 EVRF064 EVRF065 EXSP001 EXTP004",
)
UNDOCUMENTED = re.findall(
    r"\w+",
    "EVRF029 EARG002 ESMP002 ITEN406 INLA001 IBIR229 IBIR182 IBIR297 ILIN902 IRPX902 CFG015"
    " IGCA030 INKI016 ISMP902 ISGV902",
)


def test_every_documented_code_has_an_entry_with_its_page() -> None:
    entries = error_codes()
    assert len(DOCUMENTED) == 60
    assert [code for code, entry in entries.items() if entry.documented] == DOCUMENTED
    for code in DOCUMENTED:
        assert entries[code].source == f"compiler/error-codes/{code}.rst"


def test_undocumented_codes_say_where_they_are_known_from() -> None:
    entries = error_codes()
    assert [code for code, entry in entries.items() if not entry.documented] == UNDOCUMENTED
    for code in UNDOCUMENTED:
        assert entries[code].source == ""
        assert entries[code].confidence in ("third party", "release notes 2.29")


@pytest.mark.parametrize("code", [*DOCUMENTED, *UNDOCUMENTED])
def test_every_entry_is_complete_and_short(code: str) -> None:
    entry = error_codes()[code]
    assert entry.decided in ("pre-flight", "lower bound", "compiler only")
    for text in (entry.condition, entry.cause, entry.trigger, entry.remedy):
        assert 5 < len(text) < 200
        assert text == text.strip()


def test_remedies_name_only_options_that_exist_or_come_with_the_neuron_targets() -> None:
    ours = "batch-size max-length prefill-buckets decode-buckets tp dtype target lnc cc-arg help"
    theirs = "implicit-integer-downcast native-int64 internal-hlo2tensorizer-options"
    unsafe = "experimental-unsafe-fp8e4m3fn-as-fp8e4m3"
    known = {f"--{name}" for name in f"{ours} {theirs} {unsafe}".split()}
    for entry in error_codes().values():
        assert set(re.findall(r"--[a-z0-9-]+[a-z0-9]", entry.remedy)) <= known, entry.code


@pytest.mark.parametrize("text", ["EVRF007", "NCC_EVRF007", "ncc_evrf007", " evrf007 "])
def test_a_code_is_found_however_it_is_written(text: str) -> None:
    assert find_code(text).full_code == "NCC_EVRF007"


def test_an_unknown_code_names_the_nearest() -> None:
    with pytest.raises(InputError, match="'EVRF099' is no error code") as raised:
        find_code("EVRF099")
    assert "EVRF0" in raised.value.hint
    with pytest.raises(InputError) as raised:
        find_code("hello")
    assert "lists all codes" in raised.value.hint


def test_codes_are_found_in_a_log_in_order_and_once() -> None:
    log = (
        "2024-08-15T14:01:19Z ERROR 1454 [driver]: [ERROR] [NCC_EVRF029] Operation sort ...\n"
        "[INTERNAL_ERROR] [TEN404] (_pad) ...\n"
        "[NCC_EOOM001] Maximum peak HBM usage of 32.00GB exceeds ...\n"
        "[INTERNAL_ERROR]  [NCC_ITEN406] again [ERROR] [NCC_EVRF029] again\n"
        "[F137] neuronx-cc was forcibly killed; [XYZ123] is no code\n"
    )
    assert codes_in(log) == ("EVRF029", "TEN404", "EOOM001", "ITEN406")
    assert codes_in("Compiler status PASS") == ()
