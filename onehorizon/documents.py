"""Documentation pages: `docs/*.md`, rendered once per process."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from django.conf import settings
from django.http import Http404
from django.utils.html import escape
from django.utils.safestring import SafeString
from django.views.generic import TemplateView
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from core.sites import site_url

NAMES = ["api-keys", "api", "ci", "oauth", "terminal"]
SITE = "https://onehorizon.ai"  # the pages replace it with the URL of this installation

_DOCUMENT_LINK = re.compile(r"([a-z-]+)\.md(#.*)?")


@dataclass(frozen=True)
class Document:
    name: str
    title: str
    sections: list[tuple[str, str]]  # id and text of each second-level heading
    html: str


class Renderer(RendererHTML):
    """Adds anchors to headings and copy buttons to code, links documents, and excludes code from translation."""

    def heading_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return f'<{tokens[index].tag} id="{escape(slug(tokens[index + 1].content))}">'

    def heading_close(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        tag, text = tokens[index].tag, tokens[index - 1].content
        if tag == "h1":
            return "</h1>\n"
        link = f'<a class="anchor" href="#{escape(slug(text))}" aria-label="Link to “{escape(text)}”">#</a>'
        return f" {link}</{tag}>\n"

    def link_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        href = str(tokens[index].attrs["href"])
        if match := _DOCUMENT_LINK.fullmatch(href):
            href = f"/docs/{match[1]}/{match[2] or ''}"
        return f'<a href="{escape(href)}">'

    def code_inline(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return f'<code translate="no">{escape(tokens[index].content)}</code>'

    def fence(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        code = f'<pre id="code-{index}" translate="no"><code>{escape(tokens[index].content.rstrip())}</code></pre>'
        if tokens[index].info in ("json", "http"):
            return f'<div class="response">{code}</div>\n'
        return f'<div class="code">{code}<button type="button" data-copy="code-{index}" hidden>Copy</button></div>\n'


def slug(heading: str) -> str:
    """Return a heading's id in GitHub's style: `creating-a-key` for `Creating a key`."""
    return re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))


_markdown = MarkdownIt("commonmark", {"html": False}, renderer_cls=Renderer).enable("table")


@cache
def document(name: str) -> Document:
    """Return the rendered document. Raise `KeyError` if the name is unknown."""
    if name not in NAMES:
        raise KeyError(name)
    text = (settings.BASE_DIR / "docs" / f"{name}.md").read_text()
    tokens = _markdown.parse(text)
    headings = [(token.tag, following.content) for token, following in pairwise(tokens) if token.type == "heading_open"]
    return Document(
        name=name,
        title=headings[0][1],
        sections=[(slug(heading), heading) for tag, heading in headings if tag == "h2"],
        html=_markdown.renderer.render(tokens, _markdown.options, {}),
    )


class DocumentView(TemplateView):
    """A documentation page. It is public, and reads neither the session nor the database."""

    template_name = "docs/document.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        try:
            current = document(kwargs["name"])
        except KeyError:
            raise Http404 from None
        # A program copied from the page about OAuth compares this URL with the issuer.
        site = settings.BASE_URL if current.name == "oauth" else site_url(self.request)
        html = current.html.replace(SITE, escape(site))
        return super().get_context_data(
            document=current,
            documents=[document(name) for name in NAMES],
            content=SafeString(html),  # safe: raw HTML in Markdown is disabled, so all text is escaped
            **kwargs,
        )
