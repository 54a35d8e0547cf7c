"""Text as messages show it."""

from lora.messages import first_line, shortened, single_line


def test_all_white_space_becomes_single_spaces() -> None:
    assert single_line(" one\n\ttwo \r\n three ") == "one two three"
    assert single_line(ValueError("one\ntwo"), 5) == "one t"
    assert single_line(ValueError()) == ""


def test_what_is_too_long_ends_in_dots_and_has_the_length_that_was_asked_for() -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abc..."
    assert shortened("abcdefg", 6, "…") == "abcde…"


def test_an_error_without_words_has_its_types_name() -> None:
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(KeyboardInterrupt()) == "KeyboardInterrupt"
