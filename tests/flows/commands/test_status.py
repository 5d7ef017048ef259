from flows.commands.status import failure_lines


def entry(label: str, message: str, state: str = "exhausted") -> dict[str, str]:
    return {"label": label, "class": "bad_input", "message": message, "state": state}


def test_items_that_share_a_reason_share_a_line():
    failed = [entry(f"cup{index}", "no faces") for index in range(5)] + [entry("pot", "empty")]
    assert failure_lines(failed) == ["cup0, cup1, cup2 and 2 more: bad_input: no faces", "pot: bad_input: empty"]


def test_skipped_items_are_no_failures():
    assert failure_lines([entry("cup", "a photo", state="skipped")]) == []


def test_many_reasons_are_cut_short():
    lines = failure_lines(entry(f"cup{index}", f"reason {index}") for index in range(12))
    assert len(lines) == 11
    assert lines[-1] == "and 2 more reasons; --json has them all"
