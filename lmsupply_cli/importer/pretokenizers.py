r"""How byte-level tokenizers cut text before they merge, by the name that a GGUF file gives in `tokenizer.ggml.pre`.

The names are llama.cpp's (src/llama-vocab.cpp); those of encoders are left out. The rules are those of the family's own
tokenizer.json, written for the Oniguruma of `tokenizers`; llama.cpp rewrites some, because its library knows fewer forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Step = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """`steps`: each cuts what the one before it left, and the last writes bytes as characters. `nfc`: the text is composed
    first. `whole_words`: a piece that is a token stays one, whatever the merges would make of it. `adds_bos`: unless the
    file says otherwise."""

    steps: tuple[Step, ...]
    nfc: bool = False
    whole_words: bool = False
    adds_bos: bool = False


def _split(regex: str) -> Step:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def _byte_level(*, use_regex: bool) -> Step:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _splits(*regexes: str) -> tuple[Step, ...]:
    return (*map(_split, regexes), _byte_level(use_regex=False))


_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def _by_case(*, contractions: str = "", digits: str, upper: str = _UPPER, lower: str = _LOWER, signs: str) -> str:
    """Words end where a capital follows a small letter, as in o200k."""
    before = r"[^\r\n\p{L}\p{N}]?"
    end = f"{contractions}?" if contractions else ""
    return f"{before}{upper}*{lower}+{end}|{before}{upper}+{lower}*{end}|{digits}|{signs}|{_SPACES}"


_SIGNS_AND_SLASHES = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_CL100K = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|{_SPACES}"
_ONE_DIGIT = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}|{_SIGNS}|{_SPACES}"
_O200K = _by_case(contractions=_CONTRACTIONS, digits=r"\p{N}{1,3}", signs=_SIGNS_AND_SLASHES)
_TEKKEN = _by_case(digits=r"\p{N}", signs=_SIGNS_AND_SLASHES)
_NOT_HAN = "&&[^\\p{Han}]]"
_KIMI = r"[\p{Han}]+|" + _by_case(
    contractions=_CONTRACTIONS,
    digits=r"\p{N}{1,3}",
    upper=_UPPER[:-1] + _NOT_HAN,
    lower=_LOWER[:-1] + _NOT_HAN,
    signs=_SIGNS,
)
_ASCII_SIGNS = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""
_KANJI_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_DEEPSEEK = (
    rf"{_ASCII_SIGNS}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
)
_DEEPSEEK_V3 = _splits(r"\p{N}{1,3}", _KANJI_KANA, _DEEPSEEK)
# letters that have a case, as of Unicode 12
_CASED = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
    "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
_SIGNS_OF_DEEPSEEK = "[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
_HANGUL_AND_MORE = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_HANGUL_AND_SIGNS = "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+"
_BLOOM = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
_GROUPS_OF_THREE = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"  # counted from the right: 1 234 567
_ASIAN = "[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"

_DIGITS: Step = {"type": "Digits", "individual_digits": True}
_GPT2_REGEX = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_GPT2 = (_byte_level(use_regex=True),)  # the rule of GPT-2 is built in
_GPT2_DIGITS = (_DIGITS, *_GPT2)
_PLAIN_BYTES = _byte_level(use_regex=False)

_RULES: Mapping[tuple[str, ...], PreTokenizer] = {
    ("", "default"): PreTokenizer(_splits(r"[\p{P}\$\+<=>\^~\|]+", _GPT2_REGEX, r"\p{N}+", "[0-9][0-9][0-9]")),
    ("gpt-2", "phi-2", "jais", "gigachat", "a.x-4.0", "mellum", "exaone4", "trillion", "granite-docling"): PreTokenizer(
        _GPT2
    ),
    ("mpt", "olmo"): PreTokenizer(_GPT2, nfc=True),
    ("starcoder", "refact", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"): PreTokenizer(_GPT2_DIGITS),
    ("command-r",): PreTokenizer(_GPT2_DIGITS, nfc=True),
    ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"): PreTokenizer(
        _splits(_CL100K), whole_words=True, adds_bos=True
    ),
    ("dbrx", "smaug-bpe", "chatglm-bpe"): PreTokenizer(_splits(_CL100K)),
    ("glm4", "glm5"): PreTokenizer(_splits(_CL100K), whole_words=True),
    ("jais-2",): PreTokenizer(
        _splits(
            rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|\s*[\r\n]+|"
            + "|".join(rf"\s{{{count}}}(?!\S)" for count in ("512", "256", "128", "64", "32", "16", "8", "4", "1,2"))
            + r"|\s{1}"
        )
    ),
    ("minicpm5",): PreTokenizer(
        _splits(r"\p{N}{1,3}", rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}+|{_SIGNS}|{_SPACES}"), whole_words=True
    ),
    ("qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2"): PreTokenizer(_splits(_ONE_DIGIT), nfc=True),
    ("hunyuan", "solar-open", "grok-2"): PreTokenizer(_splits(_ONE_DIGIT)),
    ("laguna",): PreTokenizer(_splits(r"[^\n]+|[\n]+", _ONE_DIGIT)),
    ("ufakzeka",): PreTokenizer(_splits(rf"{_WORD}|\p{{N}}|{_SIGNS}|{_SPACES}")),
    ("qwen35",): PreTokenizer(
        _splits(
            rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
            rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
        ),
        nfc=True,
    ),
    ("seed-coder",): PreTokenizer(
        _splits(rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}")
    ),
    ("exaone-moe",): PreTokenizer(
        _splits(
            rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
        )
    ),
    ("bailingmoe", "bailingmoe2", "llada-moe"): PreTokenizer(
        _splits(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
        )
    ),
    ("deepseek-llm",): PreTokenizer(
        (
            _split("[\r\n]"),
            _split(rf"\s?[{_CASED}]+"),
            _split(rf"\s?{_SIGNS_OF_DEEPSEEK}"),
            _split(r"\s+$"),
            _split(_HANGUL_AND_MORE),
            _DIGITS,
            _PLAIN_BYTES,
        )
    ),
    ("deepseek-coder",): PreTokenizer(
        (
            _split("[\r\n]"),
            _split(r"\s?\p{L}+"),
            _split(r"\s?\p{P}+"),
            _split(_HANGUL_AND_MORE),
            _DIGITS,
            _PLAIN_BYTES,
        )
    ),
    ("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"): PreTokenizer(_DEEPSEEK_V3),
    ("spark2_5",): PreTokenizer(
        _splits(
            r"\p{N}{1,3}",
            _KANJI_KANA,
            rf"{_ASCII_SIGNS}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+|[\r\n]|\s+(?!\S)|\s+",
            r"\p{N}",
        )
    ),
    ("afmoe",): PreTokenizer(_splits(_GROUPS_OF_THREE, _ASIAN, _DEEPSEEK)),
    ("youtu",): PreTokenizer(
        _splits(
            f"{_HANGUL_AND_SIGNS}|{_KANJI_KANA}",
            _by_case(contractions=_CONTRACTIONS, digits=r"\p{N}", signs=_SIGNS_AND_SLASHES),
        ),
        whole_words=True,
    ),
    ("falcon",): PreTokenizer(
        (
            {"type": "Punctuation", "behavior": "Contiguous"},
            *_GPT2,
            {"type": "Digits", "individual_digits": False},
            _split("[0-9][0-9][0-9]"),
        )
    ),
    ("poro-chat", "bloom", "gpt3-finnish"): PreTokenizer(_splits(_BLOOM)),
    ("viking",): PreTokenizer((_split(_BLOOM), _DIGITS, _PLAIN_BYTES)),
    ("tekken",): PreTokenizer(_splits(_TEKKEN), whole_words=True, adds_bos=True),
    ("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"): PreTokenizer(_splits(_O200K)),
    ("tiny_aya", "cohere2moe"): PreTokenizer(_splits(r"\d{1,3}(?=(?:\d{3})*\b)", _O200K)),
    ("kimi-k2",): PreTokenizer(_splits(_KIMI)),
    ("superbpe",): PreTokenizer(_splits(r"\p{N}+", r"(?=(\d{3})+(?!\d))")),
    ("chameleon",): PreTokenizer(
        (
            _split("<sentinel:[0-9]+>"),
            _split("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"),
            _split(r"([\t\n]|    |  )"),
            _DIGITS,
            {"type": "Punctuation", "behavior": "Isolated"},
            *_GPT2,
        ),
        adds_bos=True,
    ),
}

PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {name: rule for names, rule in _RULES.items() for name in names}
