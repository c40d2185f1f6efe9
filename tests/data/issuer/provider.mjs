// An OpenID provider of loopback that hands out access tokens for a broker: JWTs of RFC 9068, bound to
// the caller's key (DPoP), for one resource. Arguments: folder of `node_modules`, the resource.
//
// It says where it listens. Then, a line on its standard input each: `rotate` makes a new key that
// signs from now on beside the old ones; `drop` lets go of all keys but the one that signs.

import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { generateKeyPairSync } from 'node:crypto';

// Standard output is for the test alone.
console.info = console.error;
const [, , modules, resource] = process.argv;
const { default: Provider } = await import(`${modules}/oidc-provider/lib/index.js`);

let number = 0;
function key() {
  number += 1;
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), kid: `key-${number}`, alg: 'ES256', use: 'sig' };
}

let keys = [key()];
let serve;
const server = createServer((request, response) => serve(request, response));
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = () => new Provider(issuer, {
    jwks: { keys },
    clients: [{
      client_id: 'orchestrator',
      client_secret: 'a-secret-of-the-tests',
      id_token_signed_response_alg: 'ES256',
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
      dpop_bound_access_tokens: true,
    }],
    scopes: ['invoice:read', 'invoice:create'],
    extraTokenClaims: () => ({ tool: 'invoice' }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      dPoP: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => resource,
        getResourceServerInfo: () => ({
          scope: 'invoice:read invoice:create',
          audience: resource,
          accessTokenTTL: 300,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256', kid: keys[0].kid } },
        }),
      },
    },
  });
  serve = provider().callback();
  console.log(issuer);
  createInterface({ input: process.stdin }).on('line', (line) => {
    if (line === 'rotate') keys = [key(), ...keys];
    if (line === 'drop') keys = keys.slice(0, 1);
    serve = provider().callback();
    console.log(keys[0].kid);
  }).on('close', () => process.exit(0));
});
