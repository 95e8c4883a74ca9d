"""The API's description, OpenAPI 3.1: from the routes, the fields of their forms and the shapes of their answers.

What is said here of a field or a status is said where the field is read or the answer is made; this module only writes it down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web

from pfmoc import __version__
from pfmoc.dialects import shapes
from pfmoc.dialects.fields import Field, FieldSet
from pfmoc.dialects.forms import FILE_FIELD
from pfmoc.dialects.operations import JSON, TEXT, ZIP, Operation, Shape
from pfmoc.dialects.routes import Handler, Route
from pfmoc.http import json_body
from pfmoc.jobs.names import JID_MAX, JID_PATTERN

Document = dict[str, Any]
"""A JSON object."""

_INFO = """\
A compute resource of ChRIS: it takes plugin jobs with their data, runs them, and hands out what they leave. This describes the
generations of the API that are on at this address and speak in forms, as this server is configured. `pfcon 6` is for CUBE 7,
`pfcon 5` for CUBE 3 to 6; both speak of the same jobs.

Every path ends in a slash; without it, it is answered 308. Wherever there is GET there is HEAD, and every path has OPTIONS; any
other method is answered 405, and an unknown path 404, in HTML. Unknown fields are ignored. JSON is read as generously as a form
is: one value may stand for a list of one, a number for a text of digits, and the other way round.

Every refusal is a JSON object with a `message`. A request may be repeated: it never starts a job twice.
"""

_REFUSALS: Mapping[int | str, str] = {
    400: "The request is at fault. The message names the field.",
    401: "The token is missing, expired or invalid.",
    404: "There is no such job, data or image.",
    408: "The body of the request did not arrive in time.",
    409: "The request contradicts the state of an existing job, or differs from the one that made it.",
    413: "The request, or what it unpacks to, is larger than a limit of this server.",
    415: "The body is compressed, or not of the type that is asked for.",
    416: "Nothing of the file lies in the range.",
    429: "There were too many failed logins.",
    500: "A fault of the server. Its log has the cause.",
    503: "The server starts or ends, or what it depends on does not answer. Nothing is known to be wrong with the request.",
    504: "The image could not be fetched in time.",
    507: "Storage is full.",
    "4XX": "The container engine has refused, with this status.",
    "5XX": "The container engine has failed, with this status.",
}
_EVERYWHERE = (500, 503)
_OF_FORMS = (400, 408, 413, 415)
_RETRY = (429, 503)

_HEADERS: Mapping[str, tuple[str, Document]] = {
    "Retry-After": ("seconds after which trying again makes sense", {"type": "integer", "minimum": 1}),
    "X-Request-ID": ("names the request in the server's log", {"type": "string"}),
    "Content-Disposition": ("a file name made of the job's id", {"type": "string"}),
    "Accept-Ranges": ("ranges of bytes are served", {"const": "bytes"}),
    "ETag": ("changes with the output; for If-Range", {"type": "string"}),
    "Content-Range": ("which bytes, and of how many", {"type": "string", "pattern": "^bytes "}),
}
"""What each means, and its JSON Schema. An answer that may have one always has it."""
_TEXT = {"type": "string", "pattern": "^[^\\u0000]*$"}
"""NUL cannot stand in a command line, an environment or a path."""


def describe(groups: Mapping[str, Sequence[Route]]) -> Document:
    """Return the document.

    :param groups: routes by tag, such as the name of a generation; one without an ``operation`` is left out
    """
    return _Description(groups).document


def answering(document: Document) -> Handler:
    """A handler that answers with the document, or with 304 when the client has it already."""
    body = json_body(document)
    tag = hashlib.sha256(body).hexdigest()[:32]

    async def answer(request: web.Request) -> web.StreamResponse:
        headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
        known = request.if_none_match or ()
        if any(etag.value in (tag, "*") for etag in known):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers=headers, content_type=JSON)

    return answer


class _Description:
    def __init__(self, groups: Mapping[str, Sequence[Route]]) -> None:
        self._schemas: dict[str, Document] = {}
        self._refusals: dict[str, Document] = {}
        self._ids = {(route.method, route.path): _operation_id(route) for routes in groups.values() for route in routes}
        paths: dict[str, Document] = {}
        for tag, routes in groups.items():
            for route in routes:
                if route.operation is not None:
                    paths.setdefault(route.path, {})[route.method.lower()] = self._operation(tag, route, route.operation)
        self.document = {
            "openapi": "3.1.0",
            "info": {
                "title": "ChRIS on MOC",
                "summary": "A ChRIS compute resource for the Mass Open Cloud",
                "description": _INFO,
                "version": __version__,
                "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "tags": [{"name": tag} for tag in groups],
            "security": [{"token": []}],
            "paths": paths,
            "components": {
                "securitySchemes": {
                    "token": {
                        "type": "http",
                        "scheme": "bearer",
                        "bearerFormat": "JWT",
                        "description": "from POST /api/v1/auth-token/; 'Bearer' is written with a capital B",
                    }
                },
                "headers": {
                    name: {"description": meaning, "required": True, "schema": schema}
                    for name, (meaning, schema) in _HEADERS.items()
                },
                "schemas": self._schemas,
                "responses": self._refusals,
            },
        }

    def _operation(self, tag: str, route: Route, operation: Operation) -> Document:
        described: Document = {
            "operationId": self._ids[route.method, route.path],
            "summary": route.summary,
            "description": operation.help,
            "tags": [tag],
        }
        if route.open:
            described["security"] = []
        if parameters := _parameters(route, operation):
            described["parameters"] = parameters
        if route.form is not None:
            described["requestBody"] = {
                "required": True,
                "content": {media: self._body(route.form, operation, media) for media in operation.media},
            }
        described["responses"] = {**self._answer(route, operation), **self._refused(route, operation)}
        return described

    # What is sent

    def _body(self, form: FieldSet, operation: Operation, media: str) -> Document:
        properties = {each.name: _of_field(each, operation, media) for each in form.fields}
        required = [each.name for each in form.fields if each.required or each.name in operation.needed]
        content: Document = {}
        if operation.upload:
            properties[FILE_FIELD] = {"type": "string", "format": "binary", "description": "the input, as a zip"}
            required.append(FILE_FIELD)
            content["encoding"] = {FILE_FIELD: {"contentType": ZIP}}
        content["schema"] = {"type": "object", "properties": properties, "required": required}
        return content

    # What is answered

    def _answer(self, route: Route, operation: Operation) -> Document:
        answer: Document = {"description": HTTPStatus(operation.status).phrase, "headers": _headers("X-Request-ID")}
        if operation.shape is not None:
            answer["description"] = operation.shape.help
            answer["content"] = {JSON: {"schema": self._schema(operation.shape)}}
        if operation.or_archive:
            answer.setdefault("content", {})[ZIP] = {"schema": {"contentMediaType": ZIP}}
        if operation.text:
            answer["content"] = {TEXT: {"schema": {"type": "string"}}}
        if links := self._links(route):
            answer["links"] = links
        if not operation.archive:
            return {str(operation.status): answer}
        headers = _headers("X-Request-ID", "Content-Disposition", "Accept-Ranges", "ETag")
        content = {ZIP: {"schema": {"contentMediaType": ZIP}}}
        part = {
            "description": "Part of the archive.",
            "headers": headers | _headers("Content-Range"),
            "content": {ZIP: {"schema": {"contentMediaType": "application/octet-stream"}}},
        }
        return {"200": {"description": "The archive.", "headers": headers, "content": content}, "206": part}

    def _links(self, route: Route) -> Document:
        """From the answer to a submission, to what can be done with the job."""
        if route.method != "POST" or ("GET", f"{route.path}{{jid}}/") not in self._ids:
            return {}
        names = {
            "show": ("GET", f"{route.path}{{jid}}/"),
            "output": ("GET", f"{route.path}{{jid}}/file/"),
            "remove": ("DELETE", f"{route.path}{{jid}}/"),
        }
        return {
            name: {"operationId": self._ids[key], "parameters": {"path.jid": "$response.body#/compute/jid"}}
            for name, key in names.items()
            if key in self._ids
        }

    def _refused(self, route: Route, operation: Operation) -> Document:
        statuses: set[int | str] = {*operation.refusals, *_EVERYWHERE}
        if not route.open:
            statuses.add(401)
        if route.form is not None:
            statuses.update(_OF_FORMS)
        if operation.archive:
            statuses.add(416)
        if operation.engine:
            statuses.update((504, "4XX", "5XX"))
        return {str(status): self._refusal(status) for status in sorted(statuses, key=str)}

    def _refusal(self, status: int | str) -> Document:
        name = HTTPStatus(status).name.title().replace("_", "") if isinstance(status, int) else f"Engine{status}"
        headers = ["X-Request-ID", *(["Retry-After"] if status in _RETRY else []), *(["Content-Range"] if status == 416 else [])]
        self._refusals[name] = {
            "description": _REFUSALS[status],
            "headers": _headers(*headers),
            "content": {JSON: {"schema": self._schema(shapes.MESSAGE)}},
        }
        return {"$ref": f"#/components/responses/{name}"}

    def _schema(self, schema: Any) -> Any:
        """Put references in place of shapes, and the shapes among the components."""
        match schema:
            case Shape():
                if schema.name not in self._schemas:
                    self._schemas[schema.name] = {}
                    self._schemas[schema.name] = {
                        "type": "object",
                        "description": schema.help,
                        "properties": {name: self._schema(value) for name, value in schema.keys.items()},
                        "required": list(schema.keys),
                        "additionalProperties": False,
                    }
                return {"$ref": f"#/components/schemas/{schema.name}"}
            case Mapping():
                return {key: self._schema(value) for key, value in schema.items()}
            case list():
                return [self._schema(each) for each in schema]
            case _:
                return schema


def _operation_id(route: Route) -> str:
    """``pluginjobs_show``: the collection, and what is done."""
    collection, *rest = route.path.strip("/").split("/")[2:]
    if len(rest) > 1:
        action = "output" if rest[1] == "file" else rest[1]
    else:
        action = {"POST": "submit", "DELETE": "remove", "GET": ("info", "show")[len(rest)]}[route.method]
    return f"{collection.replace('-', '_')}_{action}"


def _parameters(route: Route, operation: Operation) -> list[Document]:
    parameters: list[Document] = []
    if "{jid}" in route.path:
        schema = {"type": "string", "pattern": f"^{JID_PATTERN}$", "maxLength": JID_MAX}
        parameters.append({"name": "jid", "in": "path", "required": True, "description": "id of the job", "schema": schema})
    parameters += (
        {
            "name": field.name,
            "in": "query",
            "required": field.required,
            "description": field.help,
            "schema": {"type": "string", **field.bounds},
        }
        for field in operation.query
    )
    if operation.archive:
        parameters.append(
            {
                "name": "Range",
                "in": "header",
                "description": "one range of bytes; several, or another unit, are answered with the whole",
                "schema": {"type": "string", "examples": ["bytes=0-1023"]},
            }
        )
    return parameters


def _of_field(field: Field, operation: Operation, media: str) -> Document:
    """JSON Schema of a field."""
    needed = field.name in operation.needed
    one: Document = {"type": "integer"} if field.type is int else dict(_TEXT)
    if field.choices:
        one = {"type": "string", "enum": [str(choice) for choice in field.choices]}
    schema: Document = {"type": "array", "items": one} if field.many else one
    if field.many and (needed or (field.required and media != JSON)):
        schema["minItems"] = 1  # no form can say that a list is there and empty
    if media == JSON and not (needed or field.required):
        schema["type"] = [schema["type"], "null"]
    if field.default is not None:
        schema["default"] = field.default
    return {**schema, **field.bounds, **operation.bounds.get(field.name, {}), "description": field.help}


def _headers(*names: str) -> Document:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
