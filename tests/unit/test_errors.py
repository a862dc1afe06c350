from neuronc.errors import EXIT_CODES, NeuroncError


def test_every_error_class_has_its_own_exit_code_and_kind() -> None:
    classes: list[type[NeuroncError]] = [NeuroncError, *NeuroncError.__subclasses__()]
    assert len({cls.exit_code for cls in classes}) == len(classes)
    assert len({cls.kind for cls in classes}) == len(classes)


def test_every_exit_code_of_an_error_class_is_explained() -> None:
    for cls in NeuroncError.__subclasses__():
        assert cls.exit_code in EXIT_CODES


def test_the_text_of_an_error_is_its_message_without_the_hint() -> None:
    error = NeuroncError("tp is 0", hint="raise it")
    assert str(error) == error.message == "tp is 0"
    assert error.hint == "raise it"
