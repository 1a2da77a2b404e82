export default (provider) => provider;
