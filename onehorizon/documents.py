"""Documentation pages: `docs/*.md`, rendered once per process."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from threading import Lock
from typing import Any

from django.conf import settings
from django.http import Http404
from django.utils.html import escape
from django.utils.safestring import SafeString
from django.views.generic import TemplateView
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin

from core.sites import site_url

NAMES = ["api-keys", "api", "ci", "oauth", "terminal", "security"]  # in the order of the navigation
SITE = "https://onehorizon.ai"  # the pages replace it with the URL of this installation
LINKED = ("h2", "h3")  # headings that are links to themselves

_DOCUMENT_LINK = re.compile(r"([a-z-]+)\.md(#.*)?")
# Lines may break after a slash in a path, and not after the hyphens of an option such as --fail.
_SLASH = re.compile(r"(?<=[\w}])/(?=[\w{])")
_OPTION = re.compile(r"(?<!\S)-+[\w-]+")


@dataclass(frozen=True)
class Document:
    name: str
    title: str
    sections: list[tuple[str, str]]  # id and text of each second-level heading
    html: str


class Renderer(RendererHTML):
    """Turns headings into links to themselves, adds copy buttons to code, and links documents.

    Code is excluded from translation. Code and tables scroll if they are wider than the page; `tabindex` lets the
    keyboard scroll them in every browser.
    """

    def heading_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        tag, heading_id = tokens[index].tag, escape(str(tokens[index].attrs["id"]))
        link = f'<a href="#{heading_id}">' if tag in LINKED else ""
        return f'<{tag} id="{heading_id}">{link}'

    def heading_close(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        tag = tokens[index].tag
        return f"</a></{tag}>\n" if tag in LINKED else f"</{tag}>\n"

    def table_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        label = next(token.attrs["id"] for token in reversed(tokens[:index]) if token.type == "heading_open")
        return f'<div class="table" role="group" aria-labelledby="{escape(str(label))}" tabindex="0">\n<table>\n'

    def table_close(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return "</table>\n</div>\n"

    def link_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        href = str(tokens[index].attrs["href"])
        if match := _DOCUMENT_LINK.fullmatch(href):
            href = f"/docs/{match[1]}/{match[2] or ''}"
        return f'<a href="{escape(href)}">'

    def code_inline(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        code = _OPTION.sub(r'<span class="option">\g<0></span>', escape(tokens[index].content))
        return f'<code translate="no">{_SLASH.sub("/<wbr>", code)}</code>'

    def fence(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        is_response = tokens[index].info in ("json", "http")
        label, code = "Response" if is_response else "Code", escape(tokens[index].content.rstrip())
        opening = f'<pre id="code-{index}" role="group" aria-label="{label}" tabindex="0" translate="no">'
        pre = f"{opening}<code>{code}</code></pre>"
        if is_response:
            return f'<div class="response">{pre}</div>\n'
        return f'<div class="code">{pre}<button type="button" data-copy="code-{index}" hidden>Copy</button></div>\n'


# The plugin gives each heading an id in GitHub's style: `creating-a-key` for `Creating a key`.
_markdown = MarkdownIt("commonmark", {"html": False}, renderer_cls=Renderer).enable("table")
_markdown.use(anchors_plugin, max_level=6)
_parsing = Lock()  # while markdown-it-py prepares its rules, another thread may get only some of them


def plain_text(inline: Token) -> str:
    """Return the text of a heading, without its markup."""
    return "".join(token.content for token in inline.children or [])


def inline(text: str) -> SafeString:
    """Return a line of Markdown in HTML."""
    with _parsing:
        return SafeString(_markdown.renderInline(text))  # safe: raw HTML in Markdown is disabled, so text is escaped


@cache
def document(name: str) -> Document:
    """Return the rendered document. Raise `KeyError` if the name is unknown."""
    if name not in NAMES:
        raise KeyError(name)
    text = (settings.BASE_DIR / "docs" / f"{name}.md").read_text()
    with _parsing:
        tokens = _markdown.parse(text)
    headings = [(token, plain_text(inline)) for token, inline in pairwise(tokens) if token.type == "heading_open"]
    return Document(
        name=name,
        title=headings[0][1],
        sections=[(str(token.attrs["id"]), heading) for token, heading in headings if token.tag == "h2"],
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
        documents = [document(name) for name in NAMES]
        index = documents.index(current)
        return super().get_context_data(
            document=current,
            documents=documents,
            previous=documents[index - 1] if index > 0 else None,
            next=documents[index + 1] if current != documents[-1] else None,
            content=SafeString(html),  # safe: raw HTML in Markdown is disabled, so all text is escaped
            **kwargs,
        )
