// What the client's proxy uses of Next.js: a JSON response.
export const NextResponse = { json: (body, init) => Response.json(body, init) };
