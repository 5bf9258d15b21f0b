"""What `launch` tells coding agents, and what their first prompt costs."""

from __future__ import annotations

import json
import tomllib

import pytest

from lmsupply_cli.errors import UsageError
from lmsupply_cli.server.clients import CLIENTS, NO_KEY, PrefillCost, Server, find_client

SERVER = Server("http://127.0.0.1:11535", "qwen3-4b", 32_768, "secret")


def test_claude_gets_every_model_it_may_ask_for() -> None:
    setup = find_client("claude").setup(SERVER)
    assert setup.arguments == ()
    assert setup.variables["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:11535"
    assert setup.variables["ANTHROPIC_AUTH_TOKEN"] == "secret"
    models = {value for name, value in setup.variables.items() if name.endswith("_MODEL")}
    assert models == {"qwen3-4b"}


def test_codex_gets_toml_values() -> None:
    setup = find_client("codex").setup(SERVER)
    assert setup.arguments[::2] == ("-c",) * (len(setup.arguments) // 2)
    config = tomllib.loads("\n".join(setup.arguments[1::2]))
    provider = config["model_providers"][config["model_provider"]]
    assert provider["base_url"] == "http://127.0.0.1:11535/v1"
    assert provider["wire_api"] == "responses"
    assert setup.variables == {provider["env_key"]: "secret"}
    assert (config["model"], config["model_context_window"]) == ("qwen3-4b", 32_768)


def test_aider_and_opencode() -> None:
    aider = find_client("aider").setup(SERVER)
    assert aider.arguments[:2] == ("--model", "openai/qwen3-4b")
    assert aider.variables["OPENAI_API_BASE"] == "http://127.0.0.1:11535/v1"
    config = json.loads(find_client("opencode").setup(SERVER).variables["OPENCODE_CONFIG_CONTENT"])
    provider, _, model = config["model"].partition("/")
    assert config["provider"][provider]["models"][model]["limit"]["context"] == 32_768
    assert config["provider"][provider]["options"] == {"baseURL": "http://127.0.0.1:11535/v1", "apiKey": "secret"}


@pytest.mark.parametrize("name", CLIENTS)
def test_without_a_key_clients_still_get_one(name: str) -> None:
    setup = CLIENTS[name].setup(Server(SERVER.url, SERVER.model, SERVER.context_tokens))
    assert NO_KEY in json.dumps(dict(setup.variables))


def test_an_unknown_client() -> None:
    with pytest.raises(UsageError) as raised:
        find_client("calude")
    assert raised.value.hint == "did you mean claude?"


def test_one_measurement_is_a_rate() -> None:
    assert PrefillCost.of({512: 2.56}).seconds(8192) == pytest.approx(40.96)


def test_two_measurements_tell_attention_from_the_rest() -> None:
    true = PrefillCost(0.004, 1e-7)
    found = PrefillCost.of({512: true.seconds(512), 2048: true.seconds(2048)})
    assert found.seconds(24_100) == pytest.approx(true.seconds(24_100))


def test_noise_never_makes_a_long_prompt_cheap() -> None:
    found = PrefillCost.of({512: 3.0, 2048: 4.0})
    assert found.seconds(8192) == pytest.approx(16.0)
