# SPDX-License-Identifier: Apache-2.0
"""The part of Go's templates that `-o template` has."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl.metal.template import parse, render

MACHINE: dict[str, Any] = {
    "id": "m1",
    "size": {"id": "s1"},
    "tags": ["a", "b=1"],
    "labels": {"x/y": "1", "b": "2"},
    "allocation": None,
    "count": 3,
    "nat": False,
}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{ .id }}:{{ .size.id }}", "m1:s1"),
        ("{{.id}}", "m1"),
        ("{{ .nope }} {{ .nope.deeper }} {{ .id.deeper }}", "<no value> <no value> <no value>"),
        ("{{ .tags }} {{ .labels }} {{ .nat }} {{ .count }}", "[a b=1] map[b:2 x/y:1] false 3"),
        ('{{ index .tags 1 }} {{ index .labels "x/y" }} {{ len .tags }}', "b=1 1 2"),
        ("{{ range .tags }}<{{ . }} {{ $.id }}>{{ end }}", "<a m1><b=1 m1>"),
        ("{{ range .labels }}{{ . }},{{ end }}", "2,1,"),
        ("{{ range .allocation }}x{{ else }}none{{ end }}", "none"),
        ("{{ if .allocation }}yes{{ else }}no{{ end }}", "no"),
        ("{{ if .tags }}{{ if .nat }}a{{ else }}b{{ end }}{{ end }}", "b"),
        ("a {{- .id -}} b", "am1b"),
        ("a{{/* nothing */}}b", "ab"),
        ('{{ "te\\"xt" }}{{ `raw\\` }}', 'te"xtraw\\'),
        ("{{ with", None),
        ("{{ end }}", None),
        ("{{ range .tags }}", None),
        ("{{ if }}x{{ end }}", None),
        ("{{ else if .x }}", None),
        ("{{ $x := .id }}", None),
        ("{{ .id | printf }}", None),
        ("{{ printf .id }}", None),
        ("{{ }}", None),
        ("{{ index .tags 9 }}", None),
        ("{{ len .count }}", None),
        ("{{ range .id }}{{ end }}", None),
        ("{{ if .a }}" * 100 + "{{ end }}" * 100, None),
    ],
    ids=lambda each: None if each is None else str(each)[:30],
)
def test_a_template_is_filled_in_as_go_does_or_refused(text: str, filled: str | None) -> None:
    if filled is not None:
        assert render(parse(text), MACHINE) == filled
        return
    with pytest.raises(InvalidArgumentError) as refused:
        render(parse(text), MACHINE)
    assert str(refused.value).startswith("the template is wrong: ")
    assert refused.value.remedy


@given(st.text(alphabet='{} .-$"`/*abifrangeelsdx0\n', max_size=60))
def test_whatever_is_typed_is_filled_in_or_refused(text: str) -> None:
    try:
        filled = render(parse(text), MACHINE)
    except InvalidArgumentError:
        return
    assert isinstance(filled, str)
    if "{{" not in text:
        assert filled == text
