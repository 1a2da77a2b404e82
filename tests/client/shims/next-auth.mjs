// What the client's log-in uses of next-auth: the options that it is given, whose log-in the test calls as next-auth would.
export default (_request, _response, options) => options;
