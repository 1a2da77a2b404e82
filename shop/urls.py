"""All addresses of the desk."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from shop.media import FOLDER, product_picture

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("admin/", admin.site.urls),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="api-docs"),
    path(f"media/{FOLDER}/<path:name>", product_picture, name="product-picture"),
    path("payments/", include("payments.urls")),
    # Before those of orders, which take any word for an order's id.
    path("", include("checkout.urls")),
    path("", include("orders.urls")),
]

handler400 = "shop.answers.bad_request"
handler403 = "shop.answers.forbidden"
handler404 = "shop.answers.not_found"
handler500 = "shop.answers.server_error"
