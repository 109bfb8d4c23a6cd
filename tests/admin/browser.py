"""A page of the admin as a browser sees it: its links, and its forms with what they send."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import urlencode, urljoin

from django.test import Client


class Button(NamedTuple):
    name: str  # blank if the button sends nothing
    value: str
    label: str


@dataclass
class Form:
    """A form. `fields` are its successful controls (HTML 4.01, 17.13.2) in order, without buttons."""

    url: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    buttons: list[Button] = field(default_factory=list)
    options: dict[str, list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )  # of its selects and unchecked boxes

    def data(self, button: Button | None = None, **entered: str | list[str] | None) -> dict[str, list[str]]:
        """Return what the browser sends after a click on `button`, by default the first.

        `entered` has what the user enters or chooses. None removes a value, as unchecking a box does.
        """
        name, value, _ = button or self.buttons[0]
        sent: dict[str, list[str]] = {}
        for control, text in [*self.fields, (name, value)]:
            if control:
                sent.setdefault(control, []).append(text)
        sent |= {name: [value] if isinstance(value, str) else value or [] for name, value in entered.items()}
        return sent

    def send(self, client: Client, button: Button | None = None, **entered: str | list[str] | None) -> Any:
        """Submit the form and follow redirects."""
        body = urlencode(self.data(button, **entered), doseq=True)
        if self.method == "get":
            return client.get(f"{self.url.partition('?')[0]}?{body}", follow=True)
        return client.post(self.url, body, content_type="application/x-www-form-urlencoded", follow=True)


class Page(HTMLParser):
    """A parsed page. It has the links that the admin's scripts add: pop-ups and autocompletes."""

    def __init__(self, url: str, html: str) -> None:
        super().__init__()
        self.url = url
        self.links: list[str] = []
        self.forms: list[Form] = []
        self._in_form = False
        self._text: list[str] = []  # since the last start tag
        self._at_end: Callable[[], None] = lambda: None  # of the open select, textarea or button
        self._popups: list[tuple[str, str]] = []  # the id of a select, and the URL for its value
        self._values: dict[str, str] = {}  # of selects, by id
        self.feed(html)
        self.close()
        for control, template in self._popups:
            if value := self._values.get(control):
                self._add_link(template.replace("__fk__", value))

    @classmethod
    def open(cls, client: Client, url: str) -> "Page":
        response = client.get(url)
        assert response.status_code == 200, (url, response.status_code)
        return cls(url, response.content.decode())

    def form(self, label: str = "Save") -> Form:
        """Return the form that has a button with this label."""
        return next(form for form in self.forms if any(button.label == label for button in form.buttons))

    # ---- parsing ----

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        attrs: dict[str, str] = {name: value or "" for name, value in attributes}
        self._text = []
        if tag == "a" and "href" in attrs:
            self._add_link(attrs["href"])
        elif tag == "a" and "data-href-template" in attrs:
            self._popups.append((attrs["id"].partition("_")[2], attrs["data-href-template"]))
        elif tag == "script" and "src" in attrs:
            self._add_link(attrs["src"])
        elif tag == "form":
            url = urljoin(self.url, attrs.get("action") or self.url)
            self.forms.append(Form(url, attrs.get("method", "get").lower()))
            self._in_form = True
        elif self._in_form and "disabled" not in attrs and tag in ("input", "select", "option", "textarea", "button"):
            getattr(self, f"_start_{tag}")(attrs)

    def handle_data(self, data: str) -> None:
        self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._in_form = False
        elif tag in ("select", "textarea", "button"):
            self._at_end()
            self._at_end = lambda: None

    def _start_input(self, attrs: dict[str, str]) -> None:
        form, name, kind = self.forms[-1], attrs.get("name", ""), attrs.get("type", "text")
        if kind == "submit":
            form.buttons.append(Button(name, attrs["value"], attrs["value"]))
        elif kind in ("checkbox", "radio") and "checked" not in attrs:
            form.options[name].append(attrs.get("value", "on"))
        else:
            form.fields.append((name, attrs.get("value", "on" if kind in ("checkbox", "radio") else "")))

    def _start_select(self, attrs: dict[str, str]) -> None:
        self._options: list[tuple[str, bool]] = []
        self._at_end = lambda: self._end_select(attrs)
        if "data-ajax--url" in attrs:
            query = {
                name: attrs[f"data-{name.replace('_', '-')}"] for name in ("app_label", "model_name", "field_name")
            }
            self._add_link(f"{attrs['data-ajax--url']}?{urlencode({'term': 'o', **query})}")

    def _start_option(self, attrs: dict[str, str]) -> None:
        self._options.append((attrs["value"], "selected" in attrs))

    def _end_select(self, attrs: dict[str, str]) -> None:
        form, name = self.forms[-1], attrs.get("name", "")
        chosen = [value for value, selected in self._options if selected]
        if "multiple" not in attrs and not chosen:
            chosen = [value for value, _ in self._options[:1]]
        form.options[name] = [value for value, _ in self._options]
        form.fields += [(name, value) for value in chosen]
        self._values[attrs.get("id", "")] = next(iter(chosen), "")

    def _start_textarea(self, attrs: dict[str, str]) -> None:
        def end() -> None:
            text = "".join(self._text).removeprefix("\r").removeprefix("\n")
            self.forms[-1].fields.append((attrs["name"], text.replace("\r\n", "\n").replace("\n", "\r\n")))

        self._at_end = end

    def _start_button(self, attrs: dict[str, str]) -> None:
        def end() -> None:
            label = "".join(self._text).strip()
            self.forms[-1].buttons.append(Button(attrs.get("name", ""), attrs.get("value", ""), label))

        if attrs.get("type", "submit") == "submit":
            self._at_end = end

    def _add_link(self, href: str) -> None:
        url = urljoin(self.url, href).partition("#")[0]
        if url.startswith("/"):  # not another site
            self.links.append(url)
