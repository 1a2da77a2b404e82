export const ROUTES = { AUTH: '/auth' };
