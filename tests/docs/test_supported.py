from pilot.resources.kinds import KINDS
from tests.docs.supported import DOCUMENT, document


def test_the_document_says_what_the_code_does():
    assert DOCUMENT.read_text() == document(), "docs/supported.md is out of date: run `make supported`"


def test_every_kind_is_in_it():
    text = DOCUMENT.read_text()
    assert not [kind.name for kind in KINDS if (kind.written or kind.name) not in text]
