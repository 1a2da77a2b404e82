"""What the mails say: every event in every language, nothing unresolved, escaped where it must be, no header added."""

from __future__ import annotations

import re

import pytest
from bs4 import BeautifulSoup
from django.conf import settings
from django.core.management import call_command

from notifications import services
from notifications.rules import EVENTS, one_line, refund_totals

LANGUAGES = [code for code, _name in settings.LANGUAGES]


def rendered(event: str, language: str = "en", **changed) -> services.Rendered:
    context = services.sample_context(event=event, language=language) | changed
    return services.render(event=event, language=language, context=context, strict=True)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("event", EVENTS)
def test_every_event_renders_in_every_language_and_leaves_nothing_unresolved(event, language):
    mail = rendered(event, language)
    for part in (mail.subject, mail.text, mail.html):
        assert part.strip()
        assert not re.search(r"{{|{%|⟦|None", part)
    assert ("2" if event == "orders_cancelled" else "1000042") in mail.subject
    assert "\n" not in mail.subject
    name = "Jürgen Şahin" if EVENTS[event].audience == "staff" else "Zoë O’Neill-Weiß"
    assert name in mail.text
    assert name in mail.html
    assert f'lang="{language}"' in mail.html


@pytest.mark.parametrize("language", [code for code in LANGUAGES if code != "en"])
@pytest.mark.parametrize("event", EVENTS)
def test_no_line_of_a_translated_mail_is_still_english(event, language):
    context = services.sample_context(event=event, language="en")
    # The same facts in both, so that every line without a fact in it is the template's own.
    english, other = (services.render(event=event, language=code, context=context) for code in ("en", language))
    same = set(english.text.splitlines()) & set(other.text.splitlines())
    store = context["store"]
    facts = [store["name"], *store["address"].splitlines(), *([store["email"]] if store["email"] else [])]
    if EVENTS[event].audience == "staff":
        facts.append(context["stage"])
    else:
        facts += [*context["shipping_address"], context["payment"]["label"], *(u["sku"] for u in context["lines"])]
        facts += context["payment"].get("instructions", "").splitlines()
        facts += context.get("return_instructions", "").splitlines()
        facts += [amount["amount"] for amount in refund_totals(context.get("orders", ()))]
    assert [line for line in same if line.strip() not in {"", "--"} and not any(f in line for f in facts)] == []
    assert english.subject != other.subject


def test_money_and_days_are_written_as_people_of_the_language_do():
    english, german = rendered("order_placed").text, rendered("order_placed", "de").text
    assert "€133.80" in english
    assert "November 21, 2026" in english
    assert "133,80\xa0€" in german
    assert "21. November 2026" in german


def test_an_order_with_almost_nothing_known_renders_too():
    for event in EVENTS:
        mail = services.render(event=event, language="de", context={"number": "7"}, strict=True)
        assert ("0" if event == "orders_cancelled" else "7") in mail.subject


def test_what_customers_write_is_escaped_in_html_and_kept_in_text():
    name = "<script>alert(1)</script> & Söhne"
    mail = rendered("order_placed", customer_name=name)
    assert "<script" not in mail.html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; Söhne" in mail.html
    assert name in mail.text


def test_a_template_language_in_a_name_is_only_a_name():
    mail = rendered("order_placed", customer_name="{{ number }}{% debug %}")
    assert "Hello {{ number }}{% debug %}," in mail.text


def test_only_web_addresses_become_links():
    mail = rendered("order_shipped", tracking_url="javascript:alert(1)", order_url="data:text/html,x")
    assert "javascript:" not in mail.html + mail.text
    assert "data:text" not in mail.html + mail.text


def test_a_line_break_in_a_subject_adds_no_header():
    mail = rendered("order_placed", number="1\r\nBcc: all@example.com\x00\u2028x")
    assert mail.subject == "We have received your order 1 Bcc: all@example.com x"


def test_one_line_leaves_only_what_can_be_seen():
    assert one_line(" a\r\n\tb\x00\x1b\u202e c ") == "a b c"


def test_units_and_refund_are_told_where_there_are_any():
    text = rendered("order_partly_cancelled").text
    assert "1 × Cups & saucers <set of 4> (CUP-4)" in text
    assert "Refund: €24.95" in text
    assert "Refunded to: Credit card ending in 4242" in text
    without = rendered("order_cancelled", amount="0.00", units=[]).text
    assert "refund" not in without.lower()


def test_tax_is_told_as_included_or_added():
    assert "Tax included: €21.37" in rendered("order_placed").text
    added = rendered("order_placed", tax_included=False).text
    assert "Tax: €21.37" in added
    assert "Tax included" not in added


def test_styles_stand_in_the_elements_and_dark_mode_stays():
    page = BeautifulSoup(rendered("order_placed").html, "html.parser")
    assert "background-color" in page.body["style"]
    styles = page.find_all("style")
    assert len(styles) == 1
    assert "prefers-color-scheme: dark" in styles[0].string
    assert page.find("meta", {"name": "color-scheme"})["content"] == "light dark"


def test_layout_tables_are_hidden_from_screen_readers_and_data_tables_have_headings():
    page = BeautifulSoup(rendered("order_shipped").html, "html.parser")
    for table in page.find_all("table"):
        assert table.get("role") == "presentation" or table.find("th", scope=True)
    assert all(image.has_attr("alt") for image in page.find_all("img"))
    assert len(page.find_all("h1")) == 1


def test_pictures_are_shown_where_lines_have_them(context):
    lines = [line | {"image": "https://shop.example.com/kettle.jpg"} for line in context["lines"]]
    lines[1]["image"] = "javascript:alert(1)"
    page = BeautifulSoup(rendered("order_placed", lines=lines).html, "html.parser")
    assert [image["src"] for image in page.find_all("img")] == ["https://shop.example.com/kettle.jpg"]


def test_a_broken_file_is_told_with_its_line(tmp_path, settings):
    (tmp_path / "messages" / "order_paid").mkdir(parents=True)
    (tmp_path / "messages" / "order_paid" / "body.txt").write_text("Hello\n{% if %}\n")
    settings.TEMPLATES = with_folder(settings.TEMPLATES, tmp_path)
    with pytest.raises(services.TemplateBroken, match=r"messages/order_paid/body.txt.*line 2"):
        rendered("order_paid")


def with_folder(templates, folder):
    return [templates[0] | {"DIRS": [folder, *templates[0]["DIRS"]]}]


def test_a_shop_overrides_one_file_by_its_own_of_the_same_name(tmp_path, settings):
    (tmp_path / "messages" / "order_paid").mkdir(parents=True)
    (tmp_path / "messages" / "order_paid" / "subject.txt").write_text("Ta! {{ total|money:currency }}")
    settings.TEMPLATES = with_folder(settings.TEMPLATES, tmp_path)
    mail = rendered("order_paid")
    assert mail.subject == "Ta! €133.80"
    assert "We have received your payment" in mail.text


@pytest.mark.django_db
def test_previews_of_every_message_are_written_to_files(tmp_path, capsys):
    call_command("preview_messages", str(tmp_path / "mails"))
    names = {path.name for path in (tmp_path / "mails").iterdir()}
    assert {"order_shipped.de.html", "order_shipped.de.txt", "index.html"} <= names
    assert len(names) == len(EVENTS) * len(LANGUAGES) * 2 + 1
