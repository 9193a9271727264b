// A real OpenID provider for the login tests: `node provider.mjs CONFIG.json`. It picks a free port of 127.0.0.1, prints one line of JSON with
// its issuer, and can be told by a test what to think of its users: POST /test/users with {"sub": {claims} | null}.
// A sign-in is scripted: GET the authorization URL with `login_hint=SUB`, and follow the redirects. Without the hint there is a page of the
// provider's own, where a person types who they are.
import fs from 'node:fs';
import http from 'node:http';
import Provider from 'oidc-provider';

const settings = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const users = new Map(Object.entries(settings.users));

const configuration = {
  clients: [{
    client_id: settings.client_id,
    client_secret: settings.client_secret,
    redirect_uris: settings.redirect_uris,
    response_types: ['code'],
    grant_types: ['authorization_code', 'refresh_token'],
  }],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'], groups: ['groups'] },
  scopes: ['openid', 'offline_access', 'email', 'profile', 'groups'],
  conformIdTokenClaims: false,
  features: { devInteractions: { enabled: false } },
  pkce: { required: () => true },
  cookies: { keys: ['cookie key of a test'] },
  rotateRefreshToken: true,
  issueRefreshToken: async () => true,
  // Everything that is asked for is consented to.
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({ accountId: ctx.oidc.session.accountId, clientId: ctx.oidc.client.clientId });
    grant.addOIDCScope('openid offline_access email profile groups');
    await grant.save();
    return grant;
  },
  findAccount: async (ctx, sub) => {
    const claims = users.get(sub);
    return claims ? { accountId: sub, claims: async () => ({ ...claims, sub }) } : undefined;
  },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
};

// Its icon is none, so that a browser asks for no other.
const PAGE = `<!doctype html><html lang="en"><head><title>The provider</title><link rel="icon" href="data:,"></head><body><h1>The provider</h1>
<form method="post"><label>Who are you? <input name="user"></label> <button>Go on</button></form></body></html>`;

const server = http.createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration);
  const answer = provider.callback();
  server.on('request', async (request, response) => {
    if (request.url === '/test/users' && request.method === 'POST') {
      let body = '';
      for await (const part of request) body += part;
      for (const [sub, claims] of Object.entries(JSON.parse(body))) {
        if (claims) users.set(sub, claims); else users.delete(sub);
      }
      response.writeHead(204).end();
    } else if (request.url.startsWith('/interaction/')) {
      const { params } = await provider.interactionDetails(request, response);
      let accountId = params.login_hint;
      if (!accountId && request.method === 'POST') {
        let body = '';
        for await (const part of request) body += part;
        accountId = new URLSearchParams(body).get('user');
      }
      if (accountId) await provider.interactionFinished(request, response, { login: { accountId } });
      else response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(PAGE);
    } else {
      answer(request, response);
    }
  });
  process.stdout.write(`${JSON.stringify({ issuer })}\n`);
});
// The test that started it keeps its end of the standard input open: when that ends, so does this.
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
