// Passkeys: from the API's challenge to the browser and back. The browser reads and writes the same JSON as the API.
import { Problem, type Schemas } from "../api/client";

type Challenge = Schemas["PasskeyChallenge"];
type Answered = { id: string; response: Schemas["AssertionResponse"] };
type Made = { id: string; response: Schemas["AttestationResponse"] };

export const hasPasskeys = () => typeof PublicKeyCredential === "function" && "parseRequestOptionsFromJSON" in PublicKeyCredential;

function given(error: unknown): never {
  if (error instanceof DOMException) {
    throw new Problem(0, "passkey", "no passkey was used: try again, or sign in another way");
  }
  throw error;
}

/** Asks one of the user's passkeys. */
export async function answerPasskey(challenge: Challenge): Promise<Schemas["PasskeyAnswer"]> {
  const options = challenge.options as unknown as PublicKeyCredentialRequestOptionsJSON;
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  const found = await navigator.credentials.get({ publicKey }).catch(given);
  const { id, response } = (found as PublicKeyCredential).toJSON() as unknown as Answered;
  const { authenticatorData, clientDataJSON, signature } = response;
  return { state: challenge.state, credential: { id, response: { authenticatorData, clientDataJSON, signature } } };
}

/** Makes a new one. */
export async function makePasskey(challenge: Challenge, name: string): Promise<Schemas["PasskeyCreate"]> {
  const options = challenge.options as unknown as PublicKeyCredentialCreationOptionsJSON;
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
  const made = await navigator.credentials.create({ publicKey }).catch(given);
  const { id, response } = (made as PublicKeyCredential).toJSON() as unknown as Made;
  const { attestationObject, clientDataJSON } = response;
  return { name, state: challenge.state, credential: { id, response: { attestationObject, clientDataJSON } } };
}
