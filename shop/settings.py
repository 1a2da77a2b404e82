"""Settings of the desk: everything that differs between machines comes from the environment."""

from pathlib import Path
from typing import Any

from celery.schedules import crontab
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from shop.env import (
    broker,
    cache,
    database,
    env,
    flag,
    folders,
    mail_server,
    media_address,
    one_of,
    refuse,
    sender,
    web_address,
    whole_number,
)

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var")))
VAR_DIR.mkdir(parents=True, exist_ok=True)

DEBUG = flag("DEBUG", default=False)
DEMO = flag("DEMO", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="")
if not SECRET_KEY:
    if not (DEBUG or DEMO):
        raise ImproperlyConfigured("SECRET_KEY is missing; set it to a long random text (or DEMO=yes to try the desk).")
    SECRET_KEY = "demo-only-key-that-protects-nothing-and-is-refused-outside-demo-mode"  # noqa: S105

SITE_URL = web_address("SITE_URL", "http://localhost:8000")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
if not any(ALLOWED_HOSTS):
    raise refuse("ALLOWED_HOSTS", "", "desk.example.com,www.desk.example.com")
CSRF_TRUSTED_ORIGINS = [SITE_URL]

INSTALLED_APPS = [
    "shop.apps.DeskAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_fsm",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "shop",
    "inventory",
    "payments",
    "notifications",
    "orders",
    "checkout",
]

MIDDLEWARE = [
    "shop.health.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "shop.csp.ContentSecurityPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "shop.sessions.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
SHOP_TEMPLATES = folders("SHOP_TEMPLATES_DIR")
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # A shop lays its own templates over the desk's: same name, first found.
        "DIRS": [*SHOP_TEMPLATES, BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {"default": database("DATABASE_URL", default_file=VAR_DIR / "desk.sqlite3")}
# Shared by all processes of a machine, or of several: rate limits count in it.
CACHES = {"default": cache("CACHE_URL", folder=VAR_DIR / "cache")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "shop.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("de", _("German")), ("tr", _("Turkish"))]
LOCALE_PATHS = [BASE_DIR / "shop" / "locale"]
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_TZ = True
FORMAT_MODULE_PATH = "shop.formats"

STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STATIC_ROOT.mkdir(parents=True, exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "templates" / "static"]
# Where browsers find the pictures of products: this desk, or whatever serves that folder in its place.
MEDIA_URL = media_address("MEDIA_URL", "media/")
MEDIA_ROOT = VAR_DIR / "media"
WHITENOISE_USE_FINDERS = True

if env.str("EMAIL_URL", default=""):
    vars().update(mail_server("EMAIL_URL"))
elif DEBUG or DEMO:
    # Mails of the demo are files one can open, not lost words on a terminal.
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = VAR_DIR / "mails"
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = sender("DEFAULT_FROM_EMAIL", "Orderdesk <orders@localhost>")

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 60 * 60 * 24 * 14
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
if SITE_URL.startswith("https://"):
    SECURE_SSL_REDIRECT = flag("SECURE_SSL_REDIRECT", default=True)
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 60 * 60 * 24 * 365
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["shop.api.SessionAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["shop.api.BoundedJSONParser"],
    "DEFAULT_PAGINATION_CLASS": "shop.api.Pages",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "shop.api.answer_error",
    # How many proxies stand in front; what further X-Forwarded-For addresses say is not believed.
    "NUM_PROXIES": whole_number("NUM_PROXIES", 0),
    "COERCE_DECIMAL_TO_STRING": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Orderdesk API",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "shop.api.document_anywhere",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

CELERY_BROKER_URL, CELERY_BROKER_TRANSPORT_OPTIONS = broker("CELERY_BROKER_URL", folder=VAR_DIR / "broker")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_PUBLISH_RETRY = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# Celery closes the database connection around every task unless told how often it may be reused.
CELERY_DB_REUSE_MAX = 1000
CELERY_TIMEZONE = TIME_ZONE
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "shop.drain", "schedule": 5.0, "options": {"expires": 5}},
    "cancel unpaid orders": {"task": "orders.cancel_unpaid", "schedule": 60.0, "options": {"expires": 60}},
    "count cancellations": {"task": "orders.count_cancellations", "schedule": 60.0, "options": {"expires": 60}},
    "work off what was queued": {"task": "orders.work_off_queue", "schedule": 30.0, "options": {"expires": 30}},
    "place recurring orders": {"task": "orders.recurring_due", "schedule": 60.0, "options": {"expires": 60}},
    "look up external calls": {"task": "orders.look_up_overdue", "schedule": 600.0, "options": {"expires": 600}},
    "recheck refunds": {"task": "payments.recheck_refunds", "schedule": 24 * 3600.0, "options": {"expires": 3600}},
    "reconcile": {"task": "payments.reconcile_all", "schedule": crontab(hour=2), "options": {"expires": 3600}},
    "expire credit": {"task": "payments.expire_credit", "schedule": 24 * 3600.0, "options": {"expires": 3600}},
    "tidy up payments": {"task": "payments.tidy_up", "schedule": 24 * 3600.0, "options": {"expires": 3600}},
    "tidy up": {"task": "shop.tidy_up", "schedule": 3600.0, "options": {"expires": 3600}},
    "tidy up webhooks": {"task": "notifications.tidy_up", "schedule": 3600.0, "options": {"expires": 3600}},
}

# The desk's own choices, which a shop overrides without forking an app.
ORDER_EVENT_HANDLER = env.str("ORDER_EVENT_HANDLER", default="orders.processing.EventHandler")
ORDER_WORKFLOWS = env.list(
    "ORDER_WORKFLOWS",
    default=[
        "orders.workflows.PaymentWorkflow",
        "orders.workflows.ReviewWorkflow",
        "orders.workflows.FulfilmentWorkflow",
        "orders.workflows.CancellationWorkflow",
        "orders.workflows.ReinstatementWorkflow",
    ],
)
# The order management system that the shop's orders are reported to: this desk, or another one over HTTP.
ORDER_MANAGEMENT = env.str("ORDER_MANAGEMENT", default="orders.gateways.LocalOrderManagement")
ORDER_MANAGEMENT_URL = web_address("ORDER_MANAGEMENT_URL", "") if env.str("ORDER_MANAGEMENT_URL", default="") else ""
ORDER_MANAGEMENT_SECRET = env.str("ORDER_MANAGEMENT_SECRET", default="").strip()
ORDER_MANAGEMENT_TIMEOUT_SECONDS: float = whole_number("ORDER_MANAGEMENT_TIMEOUT_SECONDS", 5, least=1)
# Order statuses in which a person has to agree to a customer's new address.
ADDRESS_CHANGE_APPROVAL_STATUSES = env.list(
    "ADDRESS_CHANGE_APPROVAL_STATUSES", default=["preparing", "ready_for_pickup"]
)
ORDER_STATUS_STYLE = one_of("ORDER_STATUS_STYLE", "name", ["name", "code"])
ORDER_UNPAID_AFTER_MINUTES = whole_number("ORDER_UNPAID_AFTER_MINUTES", 60 * 24, least=1)
# The storefront contract's rules of cancelling: rules.Policy says what may stand in them.
EXTRA_CANCEL_RULES: dict[str, Any] = {}
CANCELLATION_FALLBACK_RULES: dict[str, bool] = {}
CANCELLATION_REQUEST_MAX_IMAGE_COUNT_PER_ORDER_ITEM = whole_number(
    "CANCELLATION_REQUEST_MAX_IMAGE_COUNT_PER_ORDER_ITEM", 5
)
# How customers are shown their orders, over REST: docs/overriding.md.
ORDER_LIST_SERIALIZER = env.str("ORDER_LIST_SERIALIZER", default="orders.api.serializers.OrderSerializer")
ORDER_DETAIL_SERIALIZER = env.str("ORDER_DETAIL_SERIALIZER", default="orders.api.serializers.OrderSerializer")
# What a storefront may send along with a purchase: docs/overriding.md.
ORDER_EXTRA_SERIALIZER = env.str("ORDER_EXTRA_SERIALIZER", default="orders.api.extra.NoExtra")
# The folder, in a shop's own templates, where those of its orders are looked for first.
SHOP_APP_LABEL = env.str("SHOP_APP_LABEL", default="shop").lower()
COMPLETED_ORDER_MAX_AGE_SECONDS = whole_number("COMPLETED_ORDER_MAX_AGE_SECONDS", 3600, least=1)
# Loyalty points are kept as money; this is only how many of them one euro (pound, …) is shown as.
LOYALTY_POINTS_PER_UNIT = whole_number("LOYALTY_POINTS_PER_UNIT", 100, least=1)
PAYMENT_GATEWAYS = {
    "manual": "payments.gateways.ManualGateway",
    "store_credit": "payments.services.credit_gateways.StoreCreditGateway",
    "loyalty": "payments.services.credit_gateways.LoyaltyGateway",
}
if DEMO or DEBUG:
    PAYMENT_GATEWAYS["demo"] = "payments.gateways.DemoGateway"
# Cards through Stripe: the key alone offers the gateway "stripe"; checks say what is missing beside it.
STRIPE_SECRET_KEY = env.str("STRIPE_SECRET_KEY", default="").strip()
STRIPE_WEBHOOK_SECRET = env.str("STRIPE_WEBHOOK_SECRET", default="").strip()
STRIPE_API_BASE = web_address("STRIPE_API_BASE", "") if env.str("STRIPE_API_BASE", default="") else ""  # for tests
if STRIPE_SECRET_KEY:
    PAYMENT_GATEWAYS["stripe"] = "payments.gateways.stripe.StripeGateway"
# Where a refund may go instead of back the way it came; each has to be a gateway of the list above.
REFUND_DESTINATIONS = env.list("REFUND_DESTINATIONS", default=["loyalty", "store_credit", "manual"])

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    # The folder broker has no host, and kombu warns of that once per message.
    # Stripe's library tells of every call.
    "loggers": {"kombu.connection": {"level": "ERROR"}, "stripe": {"level": "WARNING"}},
    "root": {
        "handlers": ["console"],
        "level": one_of("LOG_LEVEL", "INFO", ["DEBUG", "INFO", "WARNING", "ERROR"]),
    },
}
