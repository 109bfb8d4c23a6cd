"""The pages under /docs/."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from onehorizon.documents import NAMES, SITE, document

PAGES = [f"/docs/{name}/" for name in NAMES]
HOSTILE = """# A <b> & "c"

<script>alert(1)</script>

[x](javascript:alert(1))

## `<i>`

```sh
</pre><i>
```
"""


@pytest.fixture(autouse=True)
def _clear_document_cache() -> Iterator[None]:
    document.cache_clear()
    yield
    document.cache_clear()


@pytest.fixture
def write(tmp_path: Path, settings: Any) -> Callable[[str], None]:
    """A function that gives all documents this text."""
    (tmp_path / "docs").mkdir()

    def write_all(text: str) -> None:
        for name in NAMES:
            (tmp_path / f"docs/{name}.md").write_text(text)
        settings.BASE_DIR = tmp_path

    return write_all


def test_docs_redirects_to_the_guide(client: Client) -> None:
    assert client.get("/docs/")["Location"] == "/docs/api-keys/"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_needs_no_sign_in_and_no_database(page: str, client: Client) -> None:
    """Without the fixture `db`, pytest-django rejects every query."""
    response = client.get(page)

    assert response.status_code == 200
    assert "default-src 'none'" in response["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/docs/operations/", "/docs/../README/", "/docs/API/", "/docs/api-keys.md/"])
def test_other_documents_are_not_served(path: str, client: Client) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_contain_the_url_of_the_site(page: str, client: Client, settings: Any) -> None:
    """The page about OAuth has the issuer, which is one URL: a client rejects any other."""
    settings.BASE_URL = "https://base.example"

    html = client.get(page, headers={"Host": "localhost:8001"}).content.decode()

    expected, other = "http://localhost:8001", settings.BASE_URL
    if page == "/docs/oauth/":
        expected, other = other, expected
    assert expected in html
    assert other not in html
    assert SITE not in html


def test_each_section_of_the_guide_has_a_link(client: Client) -> None:
    html = client.get("/docs/api-keys/").content.decode()

    assert '<h1 id="api-keys">API keys</h1>' in html
    assert '<h3 id="from-a-program"><a href="#from-a-program">From a program</a></h3>' in html
    for heading in ("Creating a key", "Using a key", "Permissions", "Rate limits", "Rotating a key", "Revoking a key"):
        section = heading.lower().replace(" ", "-")
        assert f'<h2 id="{section}"><a href="#{section}">{heading}</a></h2>' in html
        assert f'<li><a href="#{section}">{heading}</a></li>' in html


@pytest.mark.parametrize("page", PAGES)
def test_no_id_occurs_twice_on_a_page(page: str, client: Client) -> None:
    ids = re.findall(r'\sid="([^"]*)"', client.get(page).content.decode())

    assert [name for name, count in Counter(ids).items() if count > 1] == []


def test_headings_with_the_same_text_or_with_markup_have_ids_and_links_of_their_own(
    write: Callable[[str], None], client: Client
) -> None:
    write("# Title\n\n## `iss` & *more*\n\n### Errors\n\n## Errors\n")

    html = client.get("/docs/api/").content.decode()

    assert (
        '<h2 id="iss--more"><a href="#iss--more"><code translate="no">iss</code> &amp; <em>more</em></a></h2>' in html
    )
    assert '<h3 id="errors"><a href="#errors">Errors</a></h3>' in html
    assert '<h2 id="errors-1"><a href="#errors-1">Errors</a></h2>' in html
    assert re.findall(r'<li><a href="(#[^"]*)">([^<]*)</a>', html) == [
        ("#iss--more", "iss &amp; more"),
        ("#errors-1", "Errors"),
    ]


def test_each_page_links_to_the_pages_before_and_after_it(client: Client) -> None:
    for index, page in enumerate(PAGES):
        html = client.get(page).content.decode()

        assert re.findall(r'rel="prev" href="([^"]*)"', html) == PAGES[:index][-1:]
        assert re.findall(r'rel="next" href="([^"]*)"', html) == PAGES[index + 1 :][:1]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_within_the_site_works(page: str, client: Client, settings: Any) -> None:
    settings.SECURITY_CONTACT = "security@example.com"
    html = client.get(page).content.decode()
    links = set(re.findall(r'href="(?:http://testserver)?([/#][^"]*)"', html))

    for link in links:
        path, _, section = link.partition("#")
        if path.startswith("/static/"):
            continue
        response = client.get(path or page)
        assert response.status_code in (200, 302), link
        if section and section != "main":
            assert f'id="{section}"' in response.content.decode(), link
    assert {f"/docs/{name}/" for name in NAMES} <= links


def test_html_in_a_document_is_escaped_and_script_links_are_removed(
    write: Callable[[str], None], client: Client
) -> None:
    write(HOSTILE)

    html = client.get("/docs/api/").content.decode()

    article = html.partition("<article")[2].partition("</article>")[0]
    assert not re.search(r"<(script|b|i)>|href=\"javascript", article)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in article
    assert "<title>A &lt;b&gt; &amp; &quot;c&quot; · One Horizon</title>" in html


def test_a_document_is_rendered_once(client: Client) -> None:
    for _ in range(3):
        client.get("/docs/api/")

    assert document.cache_info().misses == len(NAMES)
