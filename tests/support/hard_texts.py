"""Texts that tokenizers read differently: every kind of white space, script, mark, number, symbol and near control token."""

from __future__ import annotations

import random
import unicodedata

_CODE = [
    "def f(x):\n    if x:\n        return 1\n\nprint(f(2))\n",
    "x\n    \n    y",
    "x\n\t\n\ty",
    "if x:\n  \n  y\n   \n",
    "{\n  \"a\": [1, 2],\n  \"b\": {}\n}",
    "a.b();\n// c\n",
    "x.\n//\n",
    "x)\n/* y */",
    "x;\n/",
    "x = {}\n/\n//\n///",
    "x  =  y    +     z",
    "\tx\n\t\ty\n\t\t\tz",
    "x \t y\t z \t",
    "| a  | b |\n|---|---|\n| 1  | 2 |",
    "<h1>x</h1>\n<table><tr><td>a</td></tr></table>",
]  # fmt: skip

_SPACE = [
    " ",
    "  ",
    "   ",
    "    ",
    "        ",
    " " * 24,
    " " * 31,
    " " * 40,
    "\n",
    "\n\n",
    "\n\n\n",
    "\n\n\n\n\n\n",
    "\t",
    "\t\t",
    "\t\t\t\t",
    " x",
    "  x",
    "    x",
    "x ",
    "x  ",
    "x   \n",
    "x\n ",
    "x\n  \n",
    "x \n y",
    " \n",
    "\n ",
    "  \n  \n  ",
    "\n\na\n\n",
    "a\n\nb",
    "a\n\n\n\nb",
    "a\r\nb",
    "f(x)\r\n",
    "x;\r\n\r\ny;\r\n",
    "x \r\n \r\n y",
    "\r",
    "\r\n",
    "x\ry",
    "x\r\r\ny",
    "a\u00a0b",
    "a\u00a0\u00a0b",
    "\u00a0",
    "x \u00a0 y",
    "a\u2009b\u202fc",
    "a\u3000b",
    "a\u2028b\u2029c",
    "a\u0085b",
    "a\u200bb\u200cc",
    "a\x0bb\x0cc",
    "a▁b ▁ c",
    "▁",
]

_MARKS = [
    "é",
    "e\u0301",
    "école",
    "e\u0301cole",
    "naïve",
    "nai\u0308ve",
    "Ångström \u212b",
    "A\u030angstro\u0308m",
    "ệ ê\u0323 e\u0323\u0302",
    "\u0651\u064e \u064e\u0651",
    "محمّد",
    "محم\u064e\u0651د",
    "한국",
    "\u1112\u1161\u11ab\u1100\u116e\u11a8",
    "が か\u3099",
    "ﬁ ½ ²",
    "Z\u0351\u036b\u0343a",
    "ё е\u0308 й и\u0306",
]

_SCRIPTS = [
    "你好。",
    "中文 and 日本語",
    "カタカナとひらがな",
    "안녕",
    "مرحبا",
    "שלום",
    "שָׁלוֹם",
    "สวัสดี",
    "नमस्ते",
    "မြန်မာ",
    "Привет",
    "Γειά",
    "ქართ",
    "የኢት",
    "தமிழ்",
    "ខ្មែរ",
    "བོད",
    "𠀀𝔘𐍈",
    "Straße GROẞ",
    "İı",
]

_EMOJI = ["😀", "👍🏽", "👩‍👩‍👧", "🏳️‍🌈", "🇩🇪", "☺️ ☺", "❤️‍🔥x"]

_NUMBERS = [
    "1",
    "12",
    "123",
    "1234",
    "1234567",
    "3.14",
    "-1,000.5e-3",
    "0x1F",
    "١٢٣ १२ ¼ Ⅷ ２",
    "x1y22z333",
    "done\n\n1. one\n2. two",
    "\n1\n\n22\n\n333",
    "2024-01-31T12:00",
]

_PUNCTUATION = [
    "...",
    "!!!???",
    "-----",
    "=====\n",
    "#### x",
    "x -- y",
    "don't I'LL we'Ve 's",
    "don’t",
    "“x” «y»",
    "***x*** __y__ `z`",
    "),\n});\n",
    "https://a.b/c?d=1&e=%20#f",
    "a@b.c",
    "C:\\x\\y",
    "$x^2$ \\(y\\)",
    "€£¥ →∑√",
    ":-) ^_^",
    "a/b//c",
    "\\n\\t\\u0041",
]

_CONTROL = [
    "\x01",
    "\x04",
    "\x06",
    "a \x04 b",
    "\x1b[31mx\x1b[0m",
    "\x13\x14\x16",
    "x\x1dy\x1f",
    "\x07\x08\x7f",
    "\x80\x9f",
    "\ufffe",
    "\uffff",
    "\ufffd",
    "\ufeffx",
    "x\u202ey\u202c",
    "\U00040000",
    "\U0010ffff",
    "\ue000",
]

_TOKENS = [
    "<|im_end|>",
    "<|im_start|>user\nx<|im_end|>\n",
    "a <|im_end|> b",
    "</s>",
    "<s>x</s> y",
    "x</s>  y",
    "<think>\nx\n</think>\n\ny",
    "<tool_call>\n{}\n</tool_call>",
    "<|user|>\nx<|end|>\n<|assistant|>\n",
    "a  <|end|>  b",
    "<|endoftext|>",
    "x <|endoftext|> y",
    "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
    "<start_of_turn>user\nx<end_of_turn>\n",
    "[INST] Hi[/INST] Hello",
    "[INST]Hi [/INST]  Hello</s>",
    "<unk>",
    "<0x0A>",
    "<｜User｜>x<｜Assistant｜>",
    "<|start|>user<|message|>x<|return|>",
    "<|im_end",
    "< |im_end|>",
    "<|IM_END|>",
    "<b>x</b>",
]

_WORDS = ["Hello", "Hello there.", " d", "d", "x" * 9, "HelloWorld fooBar FOOBar", "user_name", "x,y"]


def telling_texts() -> list[str]:
    """Short ones, in which tokenizers differ: few words, so that their tokens are few too."""
    return [*_CODE, *_SPACE, *_MARKS, *_SCRIPTS, *_EMOJI, *_NUMBERS, *_PUNCTUATION, *_CONTROL, *_TOKENS, *_WORDS]


_PROSE = [
    'The quick brown fox jumps over the lazy dog. It wasn\'t amused, though: "Really?" it said.',
    "Der schnelle braune Fuchs springt über den faulen Hund; Größe, Äpfel, Übung, Straßenbahnhaltestelle.",
    "Le cœur a ses raisons que la raison ne connaît point. Où êtes-vous allés, Noël dernier ?",
    "El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío. ¿Añoraba a su querido cachorro? ¡Sí!",
    "Příliš žluťoučký kůň úpěl ďábelské ódy. Zażółć gęślą jaźń. Árvíztűrő tükörfúrógép.",
    "Pijamalı hasta yağız şoföre çabucak güvendi. IĞDIR, İstanbul, ılık.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Їжак, ґанок, ўчора.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Ἐν ἀρχῇ ἦν ὁ λόγος.",
    "敏捷的棕色狐狸跳过了懒狗。“真的吗?”它说。龍龜鬱 㐀 𠮷野家。",
    "いろはにほへと ちりぬるを。色は匂へど、散りぬるを。ﾊﾝｶｸ カタカナ 東京都港区１丁目２番",
    "다람쥐 헌 쳇바퀴에 타고파. 키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق.",
    "الحَمْدُ لِلَّهِ رَبِّ العَالَمِينَ. گچ پژ ٹڈ ۱۲۳",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה. בְּרֵאשִׁית בָּרָא אֱלֹהִים",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश करने वाले विष्णुवतार भगवान श्रीराम।",
    "সকল মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "ਸਾਰਾ ਮਨੁੱਖੀ ਪਰਿਵਾਰ ਆਪਣੀ ਮਹਿਮਾ। સૌ મનુષ્યો સ્વતંત્ર। ସବୁ ମନୁଷ୍ୟ",
    "మనుష్యులందరూ స్వతంత్రులు. ಎಲ್ಲಾ ಮಾನವರೂ ಸ್ವತಂತ್ರರು. മനുഷ്യരെല്ലാവരും തുല്യാവകാശങ്ങളോടും",
    "සියලු මනුෂ්‍යයෝ නිදහස්ව උපත ලබා ඇත. ଅ ഌ ஃ",
    "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် မွေးဖွားလာသူများ ဖြစ်သည်။",
    "មនុស្សទាំងអស់កើតមកមានសេរីភាព។ ມະນຸດທຸກຄົນເກີດມາ",
    "ყველა ადამიანი იბადება თავისუფალი. Բոլոր մարդիկ ծնվում են ազատ:",
    "የሰው ልጅ ሁሉ ሲወለድ ነጻ ነው። ᏣᎳᎩ ᐃᓄᒃᑎᑐᑦ ᚠᚢᚦ ⴰⵎⴰⵣⵉⵖ ߒߞߏ",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền.",
    "འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་སྐྱེས་ཙམ་ཉིད་ནས། ᠮᠣᠩᠭᠣᠯ",
    "𝕋𝕙𝕖 𝓺𝓾𝓲𝓬𝓴 𝗯𝗿𝗼𝘄𝗻 ﬁne ﬂuﬀ ㎏ ㍿ ™ ℃ Ⅻ ①②③ ⅓ x⁴ H₂O",
    "P̄ q̈ x̂ ỹ r̄̄ a\u0328\u0301 \u0301lone Z͑ͫ̓ͪ̂ͫ̽A̴̵̜L͠G̴O",
    "👨‍👩‍👧‍👦👨🏿‍🚀🧑🏻‍🤝‍🧑🏼 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇯🇵🇰🇷 1️⃣#️⃣ ♀️♂ 🫠🫨 ☠︎ ☠️ ✌🏾",
    "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β = ¬(¬α ∨ β), ∮E·da = Q, n → ∞, ∑ f(i) = ∏ g(i)",
    "┌─┬─┐\n│ x │\n╰─┴─╯ ▓▒░ ←↑→↓ ♔♕♖ ⠃⠗⠇",
]

_LONGER_CODE = [
    "class A(B):\n    \"\"\"Doc.\"\"\"\n\n    def __init__(self, *args: int, **kwargs: str) -> None:\n        super().__init__()\n        self._x = [i ** 2 for i in range(10) if i % 2 == 0]\n",
    "def f():\n\tfor i in range(3):\n\t\tprint(f\"{i!r:>10}\")\n    \n\treturn None  # done\n",
    "#include <stdio.h>\n\n/*\n * A comment.\n */\nint main(void)\n{\n\tprintf(\"%d\\n\", 0x1F);\t/* tab */\n\treturn 0;\n}\n",
    "//=====\n// a\n//\n\n///\tdoc\n/** x */\n#define X(a, b) \\\n    ((a) + (b)) // end.\n//\n",
    "const f = async (x) => {\r\n  await g(x ?? 1);\r\n\r\n  return `${x}`;\r\n};\r\n",
    "<!DOCTYPE html>\n<html>\n<head><title>A &amp; B</title></head>\n<body class=\"x y\">\n  <p>Hi<br/>there</p>\n  <ul>\n    <li><b>1</b></li>\n  </ul>\n</body>\n</html>",
    "SELECT a.id, COUNT(*) AS n\nFROM   t AS a\n       LEFT JOIN u ON u.id = a.id\nWHERE  a.x <> 'it''s' AND a.y >= 10.5\nGROUP  BY 1;",
    "fn main() {\n    let v: Vec<&'static str> = vec![\"a\", \"b\"];\n    println!(\"{:?}\", v.iter().map(|s| s.len()).sum::<usize>());\n}",
    "$ for f in *.txt; do echo \"${f%.txt}\" | sed -e 's/a\\/b/c/g' >> out.log 2>&1; done",
    "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\n-b\n+c\n \n d\n",
    "key: value\nlist:\n  - a\n  -  b\n\n  - |\n    text\n      more\n# end\n",
    "\\begin{equation}\n  \\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}\n\\end{equation}",
    "{\"a\":{\"b\":[1,2.5e-10,null,true,\"\\u00e9\\n\"]},\"c\":\"\"}",
    "msgid \"\"\nmsgstr \"\"\n\"Content-Type: text/plain\\n\"\n  \n#: a.c:12\nmsgid \"x\"\nmsgstr \"y\"\n",
    "Makefile:\n\nall: a.o b.o\n\t$(CC) -o $@ $^\n\n.PHONY: clean\nclean:\n\trm -f *.o\n",
    "import os, sys\nif __name__ == '__main__':\n    try:\n        pass\n    except (OSError, ValueError) as e:\n        raise SystemExit(1) from e\n    \n    \n\n    finally_ = 1\n",
]  # fmt: skip

_MARKDOWN = [
    "# Title\n\nA paragraph with *emphasis*, **strong** and `code`.\n\n## Next\n\n- a\n  - b\n    - c\n\n1. one\n2. two\n\n   more\n",
    "| Name  | Count |\n|:------|------:|\n| a     |     1 |\n| bb    |    22 |\n",
    "```python\nx = 1\n\n\n    y = 2\n```\n\n> quote\n>\n> > nested\n",
    "Steps:\n\n1. First\n2. Second\n\n\n10. Tenth\n\n100) Hundredth\n",
    '- [ ] todo\n- [x] done\n\n---\n\n***\n\n[link](https://example.org/a_b?c=d#e "t") ![img](x.png)\n',
    "Line one  \nline two\\\nline three\n\n    indented code\n\n\tand a tab\n",
    "Answer:\n\n**A.** 1\n\n**B.** 2\n\n\n\n42\n",
]

_ADDRESSES = [
    "https://www.example.org:8080/path/to/page.html?query=a%20b&x=[1]&y=%E4%BD%A0#frag-ment_1",
    "mailto:first.last+tag@sub.example.co.uk",
    "ftp://user:pass@host//dir/;type=i",
    "git@github.com:owner/repo.git",
    "file:///C:/Program%20Files/x.txt",
    "\\\\server\\share\\dir\\file.tar.gz",
    "/usr/local/lib/python3.11/site-packages/__init__.py",
    "192.168.0.1/24 fe80::1%eth0 00:1A:2B:3c:4d:5e",
    "+49 (0)30 123456-78, ISBN 978-3-16-148410-0",
    "550e8400-e29b-41d4-a716-446655440000",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ",
    "$1,234,567.89 €1.234.567,89 ¥1,000 10% 5‰ 1/2 3:45pm 1e10 6.022×10²³ 0b1010 0o17 1_000_000",
    "31415926535897932384626433832795028841971693993751",
]

_LONG = [
    "a" * 200,
    "ab" * 150,
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "pneumonoultramicroscopicsilicovolcanoconiosis" * 3,
    "x_" * 100,
    "=" * 130,
    "-" * 77 + "\n" + "-" * 77,
    "." * 65,
    " " * 130,
    "\n" * 70,
    "\t" * 40,
    "\r\n" * 20,
    " \n" * 20,
    "é" * 60,
    "字" * 60,
    "😀" * 30,
    "0" * 100,
    "1234567890" * 12,
    "A" * 90 + "a" * 90,
    "\u0301" * 30,
    "▁" * 20,
    "<|" * 20 + "|>" * 20,
]

_WHITE = [" ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", "\u00a0", "\u3000", "\u2003", "\x0b", "\x0c"]

_PIECES = [
    *_WHITE,
    *"aZé1٣字の한בع😀\u0301\u0308\u064e\u0651\u200d\ufe0f.,;:!?'\"()[]{}<>/\\|-_=+*&^%$#@~`",
    *("the", "The", " the", "return", "://", "...", "ing", "'s", "'LL", "123", "Привет", "สวัสดี", "नमस्ते"),
    *("e\u0301", "</s>", "<|im_end|>", "<think>", "\x04", "▁", "👩‍👩‍👧", "//\n", "日本", "école", "<b>"),
]


def hard_texts() -> list[str]:
    """At least 370, each only once and always the same; the telling ones come first."""
    texts = [
        *telling_texts(),
        *_PROSE,
        *(unicodedata.normalize("NFD", text) for text in _PROSE),
        *_LONGER_CODE,
        *(text.replace("\n", "\r\n") for text in _LONGER_CODE),
        *_MARKDOWN,
        *_ADDRESSES,
        *_LONG,
        *(f"a{char}b {char} {char}" for char in map(chr, range(1, 32))),
        *_mixtures(80),
    ]
    return list(dict.fromkeys(texts))


def _mixtures(count: int) -> list[str]:
    chance = random.Random(20)
    return ["".join(chance.choices(_PIECES, k=chance.randint(4, 40))) for _ in range(count)]
