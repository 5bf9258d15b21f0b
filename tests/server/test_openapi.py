"""The document of the API, and requests made from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from starlette.testclient import TestClient
from support.fake_models import FakeModels

from lmsupply_cli.server.app import all_routes, make_app
from lmsupply_cli.server.body import Body
from lmsupply_cli.server.openapi import BODIES, document
from lmsupply_cli.server.state import ServerState
from lmsupply_cli.serving.requests import ServedModel

schemathesis = pytest.importorskip("schemathesis")


class AnyName(FakeModels):
    """One model, under every name."""

    def find(self, model: str) -> ServedModel:
        return self.installed()[0]


APP = make_app(ServerState(AnyName()))
SCHEMA = schemathesis.openapi.from_dict(document(all_routes()))
SCHEMA.app = APP
SETTINGS = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_every_path_with_a_body_is_described() -> None:
    posts = {route.path for route in all_routes() if "POST" in (route.methods or ())}
    assert posts == set(BODIES)


def test_it_is_served_and_every_reference_leads_somewhere() -> None:
    with TestClient(APP, base_url="http://127.0.0.1") as client:
        found = client.get("/openapi.json").json()
    text = json.dumps(found)
    references = {part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}
    assert references == set(found["components"]["schemas"]) & references
    assert found["paths"]["/v1/messages"]["post"]["tags"] == ["Anthropic"]


@pytest.mark.parametrize("body", BODIES.values(), ids=lambda body: body.__module__ + "." + body.__name__)
def test_fields_without_effect_are_in_it_and_unsupported_ones_are_not(body: type[Body]) -> None:
    properties = body.model_json_schema()["properties"]
    assert body.no_effect <= properties.keys()
    assert not set(body.unsupported) & properties.keys()


@SCHEMA.parametrize()
@SETTINGS
def test_generated_requests_are_answered_or_refused_by_name(case: Any) -> None:
    response = case.call(base_url="http://127.0.0.1", headers={"Accept": "*/*"})
    assert response.status_code < 500, response.text
    if response.status_code == 400 and case.body is not None:
        error = json.loads(response.text)["error"]
        error = error if isinstance(error, dict) else {"message": error}
        assert error["message"]
        if "param" in error and error["code"] != "invalid_json":
            assert error["param"], response.text
