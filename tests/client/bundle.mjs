// Makes one file of the client's own code: `node bundle.mjs FOLDER_WITH_NODE_MODULES OUTPUT`.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import path from 'node:path';

const [installed, outfile] = process.argv.slice(2);
const here = path.dirname(fileURLToPath(import.meta.url));
const shim = (name) => path.join(here, 'shims', name);
const { build } = createRequire(path.join(installed, 'package.json'))('esbuild');

const SHIMS = [
  [/^settings$/, 'settings.mjs'],
  [/^routes$/, 'routes.mjs'],
  [/^next\/server$/, 'next-server.mjs'],
  [/^next-auth$/, 'next-auth.mjs'],
  [/^next-auth\/providers\/credentials$/, 'credentials.mjs'],
  [/^(redux\/store|@theme\/.*|@akinon\/pz-.*|currency-symbol-map)$/, 'nothing.cjs']
];

await build({
  entryPoints: [path.join(here, 'entry.ts')],
  outfile,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node18',
  logLevel: 'error',
  nodePaths: [path.join(installed, 'node_modules')],
  define: { 'process.env.NODE_ENV': '"production"' },
  plugins: [
    {
      name: 'shims',
      setup(building) {
        for (const [filter, file] of SHIMS) building.onResolve({ filter }, () => ({ path: shim(file) }));
      }
    }
  ]
});
