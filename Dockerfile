# One image for web, worker, beat and migrations; docker-compose.yml says which command each one runs.
FROM python:3.11-slim AS packages
COPY requirements/base.lock /tmp/base.lock
RUN python -m venv /opt/desk \
    && /opt/desk/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/base.lock

FROM python:3.11-slim
ENV PATH=/opt/desk/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --create-home --uid 10001 desk
WORKDIR /app
COPY --from=packages /opt/desk /opt/desk
COPY manage.py ./
COPY shop ./shop
COPY checkout ./checkout
COPY orders ./orders
COPY inventory ./inventory
COPY payments ./payments
COPY notifications ./notifications
COPY templates ./templates
# The key exists for this one command only; the settings refuse to start without one.
RUN SECRET_KEY=only-while-the-image-is-built python manage.py collectstatic --noinput --verbosity 0 \
    && mkdir -p var/media && chown -R desk:desk var
USER desk
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["gunicorn", "shop.wsgi:application", "--bind", "0.0.0.0:8000", "--worker-class", "gthread", "--threads", "4", "--worker-tmp-dir", "/dev/shm", "--no-control-socket", "--access-logfile", "-"]
