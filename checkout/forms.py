"""What the shop's pages ask by plain forms, so that they work in every browser: logging in, finding a guest's order."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from orders.api.base import MAX_NUMBER_LENGTH


class LoginForm(forms.Form):
    email = forms.CharField(label=_("E-mail"), max_length=254)
    password = forms.CharField(label=_("Password"), max_length=1024, strip=False)


class TrackForm(forms.Form):
    number = forms.CharField(label=_("Order number"), max_length=MAX_NUMBER_LENGTH)
    email = forms.EmailField(label=_("E-mail"), max_length=254)

    def clean_number(self) -> str:
        return str(self.cleaned_data["number"]).strip().lstrip("#")
