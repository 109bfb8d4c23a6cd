"""The API reference at /api/docs, which is complete without JavaScript."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client

from onehorizon.documents import NAMES
from onehorizon.openapi import schema


class Markup(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(attribute))]

    def count(self, tag: str) -> int:
        return [name for name, _ in self.elements].count(tag)


@pytest.fixture
def html(client: Client) -> str:
    """The page. Without the fixture `db`, pytest-django rejects every query."""
    return client.get("/api/docs").content.decode()


@pytest.fixture
def page(html: str) -> Markup:
    return Markup(html)


def section(html: str, heading: str) -> Markup:
    """Return the part of the page that the heading with this id begins."""
    (part,) = re.findall(rf'<section [^>]*aria-labelledby="{heading}">.*?</section>', html, re.DOTALL)
    return Markup(part)


def plain(markdown: str) -> str:
    return re.sub(r"\s+", " ", markdown.replace("`", "")).strip()


def operations() -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Return the method, path and description of each operation in the OpenAPI document, by its id."""
    return {
        operation["operationId"]: (method.upper(), path, operation)
        for path, methods in schema()["paths"].items()
        for method, operation in methods.items()
    }


@pytest.mark.parametrize("operation_id", operations())
def test_the_page_has_everything_about_an_operation(operation_id: str, html: str) -> None:
    method, path, operation = operations()[operation_id]
    part = section(html, operation_id)
    text = plain(part.text)

    assert part.values("data-try") == [operation_id]
    for expected in (operation["summary"], f"{method} {path}", plain(operation["description"])):
        assert expected in text
    for parameter in operation.get("parameters", []):
        assert f"{parameter['name']} " in text
        assert plain(parameter["description"]) in text
        assert f"in the {parameter['in']}" in text
    (scopes,) = [item["oauth2"] for item in operation["security"] if "oauth2" in item]
    assert all(f"with the scope {scope}" in text for scope in scopes)
    assert ("API key, or access token" in text) == ({"apiKey": []} in operation["security"])
    for status, response in operation["responses"].items():
        assert (f"#error-{status}" in part.values("href")) == ("$ref" in response)
        assert "$ref" in response or re.search(rf"{status} \w+", text)


@pytest.mark.parametrize(
    "name", [name for name, value in schema()["components"]["schemas"].items() if "properties" in value]
)
def test_the_page_has_every_property_of_every_object(name: str, html: str) -> None:
    value = schema()["components"]["schemas"][name]
    bodies = {
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]: operation_id
        for operation_id, (_, _, operation) in operations().items()
        if "requestBody" in operation
    }
    text = plain(section(html, bodies.get(name, name)).text)

    assert plain(value.get("description", "")) in text
    for key, item in value["properties"].items():
        assert re.search(rf"\b{key} \w", text)
        assert plain(item.get("description", "")) in text
        assert item.get("maxLength") is None or f"At most {item['maxLength']:,} characters." in text


def test_types_and_rules_are_readable_and_link_to_objects(html: str) -> None:
    task, tasks = section(html, "Task"), plain(section(html, "listTasks").text)

    assert "completedAt date-time or null" in plain(task.text)
    assert "contributors array of Contributor" in plain(task.text)
    assert "#Contributor" in task.values("href")
    assert "kind string Values: task, bug." in plain(task.text)
    assert "createdBy Person or null" in plain(section(html, "ApiKey").text)
    assert "kind apiKey" in plain(section(html, "ApiKeyPrincipal").text)
    assert "200 OK, ApiKeyPrincipal or UserPrincipal" in plain(section(html, "whoAmI").text)
    assert "secret string, optional" in plain(section(html, "RotatedApiKey").text)
    assert "errors map of string to array of string, optional" in plain(section(html, "ErrorBody").text)
    assert "limit integer, in the query The most items to return. From 1 to 200. Default: 50." in tasks
    assert "workspaceId string, in the path required" in tasks
    assert "status array of string, in the query Only tasks with one of these statuses. Values: idea, open," in tasks
    assert "title string required" in plain(section(html, "createTask").text)


def test_errors_and_headers_are_explained_once(page: Markup) -> None:
    components, text = schema()["components"], plain(page.text)

    for response in components["responses"].values():
        assert text.count(plain(response["description"])) == 1
    for name, header in components["headers"].items():
        assert f"header-{name}" in page.values("id")
        assert plain(header["description"]) in text


def test_examples_of_requests_have_the_site_of_the_request() -> None:
    page = Client(headers={"Host": "localhost:8147"}).get("/api/docs").content.decode()

    assert (
        'curl -sS -X PATCH "http://localhost:8147/api/v1/workspaces/current/tasks/$TASK_ID" \\\n'
        '  -H "Authorization: Bearer $ONE_API_KEY" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        '  -d \'{"status": "in_progress"}\''
    ) in unescape(page).replace("<wbr>", "")
    assert "onehorizon.ai" not in page


def test_the_page_has_one_main_and_one_first_heading_and_its_links_have_targets(html: str) -> None:
    page = Markup(re.sub(r"<template.*?</template>", "", html, flags=re.DOTALL))
    ids = page.values("id")
    fragments = {href[1:] for href in page.values("href") if href.startswith("#")}

    assert (page.count("main"), page.count("h1")) == (1, 1)
    assert len(ids) == len(set(ids))
    assert fragments <= set(ids)
    assert {*operations(), "Task", "error-429", "header-Location"} <= fragments


def test_the_page_links_to_the_documents_and_they_link_to_it(page: Markup, client: Client) -> None:
    documents = {f"/docs/{name}/" for name in NAMES}

    assert {*documents, "/api/v1/openapi.json", "/"} <= set(page.values("href"))
    for path in documents:
        assert "/api/docs" in Markup(client.get(path).content.decode()).values("href")


def test_the_page_sets_no_cookie_and_has_no_inline_style_or_script(client: Client) -> None:
    response = client.get("/api/docs")
    page = Markup(response.content.decode())

    assert not response.cookies
    assert page.values("style") == []
    assert "style" not in [tag for tag, _ in page.elements]
    assert [attributes for tag, attributes in page.elements if tag == "script" and not attributes.get("src")] == []


def test_the_key_is_never_part_of_a_url_or_a_request_body(html: str) -> None:
    """Browsers don't send an input without a name."""
    (key,) = re.findall(r"<input type=\"password\"[^>]*>", html)

    assert "name=" not in key
