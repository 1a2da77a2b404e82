// The package's own code that talks to the server; nothing here is ours.
import '@akinon/next/data/client/account';
import '@akinon/next/data/client/address';
import '@akinon/next/data/client/checkout';
import '@akinon/next/data/client/user';

export { api } from '@akinon/next/data/client/api';
export { URLS } from '@akinon/next/data/urls';
export * as proxy from '@akinon/next/api/client';
export { default as Auth } from '@akinon/next/api/auth';
export { configureStore } from '@reduxjs/toolkit';
