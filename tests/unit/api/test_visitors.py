"""Which requests are a person who opens the page."""

from __future__ import annotations

import pytest

from accounting.api.visitors import is_person

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
)
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36"
)
CUBOT_PHONE = CHROME.replace("Windows NT 10.0; Win64; x64", "Linux; Android 13; CUBOT NOTE 50")
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", "user-agent": FIREFOX}
NAVIGATION = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize("user_agent", [FIREFOX, IPHONE, CHROME, CUBOT_PHONE])
@pytest.mark.parametrize("more", [{}, NAVIGATION])
def test_a_browser_that_goes_to_the_page_is_a_person(user_agent: str, more: dict[str, str]) -> None:
    assert is_person("GET", BROWSER | {"user-agent": user_agent} | more)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST"])
def test_only_a_get_shows_the_page(method: str) -> None:
    assert not is_person(method, BROWSER)


@pytest.mark.parametrize(
    "more",
    [
        {"sec-purpose": "prefetch"},
        {"sec-purpose": "prefetch;prerender"},
        {"purpose": "prefetch"},
        {"x-moz": "prefetch"},
        {"x-purpose": "preview"},
    ],
)
def test_what_a_browser_loads_ahead_was_not_seen(more: dict[str, str]) -> None:
    assert not is_person("GET", BROWSER | more)


@pytest.mark.parametrize(
    "more",
    [
        {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-fetch-mode": "cors", "sec-fetch-dest": "empty"},
        {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
        {"accept": "*/*"},
        {"accept": "image/webp"},
    ],
)
def test_whoever_does_not_ask_for_a_page_did_not_see_one(more: dict[str, str]) -> None:
    assert not is_person("GET", BROWSER | more)


@pytest.mark.parametrize(
    "user_agent",
    [
        "",
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "Mozilla/5.0 AppleWebKit/537.36 Chrome/103.0 Safari/537.36 BingPreview/1.0b",
        "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
        "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
        "facebookexternalhit/1.1",
        "WhatsApp/2.23.20.0",
        "TelegramBot (like TwitterBot)",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) SkypeUriPreview Preview/0.5",
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
        CHROME.replace("Chrome", "HeadlessChrome"),
        "curl/8.5.0",
        "Wget/1.21",
        "python-requests/2.32",
        "Go-http-client/2.0",
        "Apache-HttpClient/4.5",
        "Java/17.0.2",
        "ProofPoint URL Defense",
    ],
)
def test_programs_that_say_what_they_are_are_not_people(user_agent: str) -> None:
    assert not is_person("GET", BROWSER | {"user-agent": user_agent})
