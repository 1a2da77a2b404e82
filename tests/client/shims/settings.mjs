// The shop's settings, as the client's package imports them: where the server is, and its languages.
export default {
  get commerceUrl() {
    return process.env.COMMERCE_URL;
  },
  localization: {
    locales: [{ value: 'en', apiValue: 'en-us', label: 'English' }],
    currencies: [{ code: 'eur', label: 'EUR' }],
    defaultLocaleValue: 'en',
    defaultCurrencyCode: 'eur',
    localeUrlStrategy: 'hide-default-locale'
  }
};
