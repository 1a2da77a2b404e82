// A shopper's browser around the client's own code: cookies, and Next.js' route from /api/client/… to the package's proxy.
import { AsyncLocalStorage } from 'node:async_hooks';
import { createRequire } from 'node:module';

const client = createRequire(import.meta.url)(process.env.CLIENT_BUNDLE);
const STOREFRONT = 'https://storefront.example';
const ROUTE = '/api/client/';
const whoseTurn = new AsyncLocalStorage();
const { fetch: overTheNetwork, Request: PlainRequest } = globalThis;

globalThis.document = {
  get cookie() {
    return whoseTurn.getStore()?.cookies() ?? '';
  }
};
// A page's addresses are relative to it; Node's are not.
globalThis.Request = class extends PlainRequest {
  constructor(input, init) {
    super(typeof input === 'string' && input.startsWith('/') ? STOREFRONT + input : input, init);
  }
};
globalThis.fetch = (input, init) => whoseTurn.getStore().fetch(input, init);

export class Shopper {
  jar = new Map();
  /** What went over the network, to the server under test: {method, url, status, headers}. */
  sent = [];
  /** So many of the server's next answers get lost on their way. */
  losing = 0;
  store = client.configureStore({
    reducer: { [client.api.reducerPath]: client.api.reducer },
    middleware: (standard) => standard().concat(client.api.middleware)
  });

  cookies() {
    return [...this.jar].map(([name, value]) => `${name}=${value}`).join('; ');
  }

  as(what) {
    return whoseTurn.run(this, what);
  }

  /** Ask an endpoint of the package, as its hook would; returns {data} or {error}. */
  async ask(endpoint, argument) {
    const { [endpoint]: known } = client.api.endpoints;
    const { data, error } = await this.as(() => this.store.dispatch(known.initiate(argument)));
    return { data, error };
  }

  /** What the package's middleware does on every page: a token as the cookie. */
  async visit() {
    const { csrf_token } = await this.as(async () => (await fetch(client.URLS.user.csrfToken)).json());
    this.jar.set('csrftoken', csrf_token);
    return this;
  }

  /** Log in through the package's next-auth options; returns what they make of the user. */
  async logIn(email, password) {
    const request = { cookies: Object.fromEntries(this.jar), headers: { cookie: this.cookies() } };
    const response = {
      setHeader: (_name, cookies) => {
        for (const cookie of cookies) this.jar.set(...cookie.split(';')[0].split('='));
      }
    };
    const { providers } = client.Auth(request, response);
    const credentials = { email, password, formType: 'login', locale: 'en', captchaValidated: 'false' };
    return this.as(() => providers.find((one) => one.id === 'default').authorize(credentials));
  }

  async fetch(input, init) {
    const address = typeof input === 'string' ? input : input.url;
    if (!address.startsWith(STOREFRONT)) return this.#send(address, init);
    const { pathname } = new URL(address);
    if (!pathname.startsWith(ROUTE)) throw new Error(`the storefront has no page ${pathname}`);
    const headers = new Headers(input.headers);
    headers.set('cookie', this.cookies());
    headers.set('origin', STOREFRONT);
    headers.set('referer', `${STOREFRONT}/account/orders`);
    const slug = pathname.slice(ROUTE.length).split('/').filter(Boolean).map(decodeURIComponent);
    return client.proxy[input.method](new PlainRequest(input, { headers }), { params: { slug } });
  }

  async #send(url, init) {
    const answer = await overTheNetwork(url, init);
    this.sent.push({
      method: init?.method ?? 'GET',
      url,
      status: answer.status,
      replayed: answer.headers.get('idempotency-replayed') !== null,
      headers: Object.fromEntries(new Headers(init?.headers))
    });
    if (this.losing > 0) {
      this.losing -= 1;
      throw new Error('the connection was reset');
    }
    return answer;
  }
}
