"""Units in Chinese: a measure, or a counter with what it counts, and nothing that makes another number of it."""

import re

_MEASURES = {
    "元": "yuan", "块钱": "yuan", "千克": "kilogram",
    "公斤": "kilogram", "克": "gram", "吨": "ton",
    "米": "meter", "千米": "kilometer", "公里": "kilometer",
    "厘米": "centimeter", "分米": "decimeter", "毫米": "millimeter",
    "升": "liter", "毫升": "milliliter", "平方米": "square meter",
    "平方厘米": "square centimeter", "平方分米": "square decimeter", "平方千米": "square kilometer",
    "立方米": "cubic meter", "立方厘米": "cubic centimeter", "小时": "hour",
    "时": "hour", "分钟": "minute", "秒": "second",
    "天": "day", "周": "week", "年": "year",
    "岁": "year", "度": "degree", "角": "jiao",
    "美元": "dollar",
}  # fmt: skip
_COUNTERS = "个只本支枝块张条件台辆棵头名位人次份篇页盒箱袋瓶杯朵颗粒根把座间层道题步段束串所家艘架匹种类"
_CHANGED = re.compile(r"[半万亿百十千倍双对打多余几分不或和与至到负约上下以]|百分|分之")
_CHARACTER = re.compile(r"[\u4e00-\u9fff]")
_ASKED = re.compile(r"(?:多少|几)([\u4e00-\u9fff]{1,4})")
_MONEY = frozenset(("yuan", "jiao", "dollar"))


def asked_measures(question: str) -> frozenset[str] | None:
    """The measures for which a question asks, none for things that are counted; None if it does not say."""
    named = set[str]()
    asked = _ASKED.findall(question)
    for words in asked:
        measure = next((_MEASURES[words[:n]] for n in (4, 3, 2, 1) if words[:n] in _MEASURES), None)
        if measure is None and words[0] not in _COUNTERS and words[0] != "钱":
            return None
        named |= _MONEY if words[0] == "钱" else {measure.split()[-1]} if measure else set()
    return frozenset(named) if asked else None


def is_chinese(text: str) -> bool:
    return _CHARACTER.search(text) is not None


def chinese_unit(text: str) -> list[str] | None:
    """The words of a unit, in English for measures; None when it is none."""
    text = text.strip()
    if text[:1] in ("万", "亿"):
        unit = chinese_unit(text[1:]) if text[1:] else []
        return None if unit is None else [text[0], *unit]
    if text in _MEASURES:
        return _MEASURES[text].split()
    if text[:1] in _COUNTERS and not _CHANGED.search(text) and len(text) <= 8:
        return [text]
    return None
