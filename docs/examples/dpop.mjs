// Proofs of possession (RFC 9449) for calls over Stockade's socket: a `fetch` that adds token and proof
// and dials the socket. Needs `jose` (the SDK brings it) and `undici`.
import { createHash, createPrivateKey, createPublicKey, randomUUID } from 'node:crypto';
import { SignJWT, exportJWK } from 'jose';
import { Agent, fetch } from 'undici';

export async function signed({ socket, key, token, resource }) {
  const privateKey = createPrivateKey(key);
  const { kty, crv, x, y } = await exportJWK(createPublicKey(privateKey));
  const dispatcher = new Agent({ connect: { socketPath: socket }, bodyTimeout: 0, headersTimeout: 0 });
  const ath = createHash('sha256').update(token).digest('base64url');
  let nonce;
  const proof = () =>
    new SignJWT({ jti: randomUUID(), htm: 'POST', htu: resource, ath, ...(nonce && { nonce }) })
      .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk: { kty, crv, x, y } })
      .setIssuedAt()
      .sign(privateKey);
  const signedFetch = async (url, init = {}) => {
    for (let attempt = 0; ; attempt++) {
      const headers = new Headers(init.headers);
      headers.set('authorization', `DPoP ${token}`);
      headers.set('dpop', await proof());
      const response = await fetch(url, { ...init, headers: [...headers], dispatcher });
      nonce = response.headers.get('dpop-nonce') ?? nonce;
      const asks = response.headers.get('www-authenticate')?.includes('use_dpop_nonce');
      if (response.status !== 401 || !asks || attempt > 0) return response;
    }
  };
  return { fetch: signedFetch, proof, close: () => dispatcher.close() };
}
