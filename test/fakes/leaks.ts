/** The secrets among a program's environment: what must stand in nothing that it writes. */
export function secretsOf(env: Readonly<Record<string, string>>): string[] {
  const found = Object.entries(env).filter(([name, value]) => /(TOKEN|SECRET_ACCESS_KEY|PASSWORD)$/.test(name) && value.length >= 6);
  return found.map(([, value]) => value);
}

/** The secrets that stand in a text: as they are, percent-encoded, or as base64 at any offset. Only their first characters are told. */
export function leaksIn(text: string, secrets: readonly string[]): string[] {
  return secrets.flatMap((secret) =>
    formsOf(secret)
      .filter(({ form }) => text.includes(form))
      .map(({ how }) => `${secret.slice(0, 3)}... (${how})`),
  );
}

function formsOf(secret: string): { how: string; form: string }[] {
  const forms = [
    { how: 'plain', form: secret },
    { how: 'percent-encoded', form: encodeURIComponent(secret) },
    { how: 'hex', form: Buffer.from(secret).toString('hex') },
  ];
  // Three ways to lie in base64; the characters at its ends depend on what is beside it.
  for (let offset = 0; offset < 3; offset += 1) {
    const form = Buffer.concat([Buffer.alloc(offset), Buffer.from(secret)]).toString('base64url');
    const inner = form.slice(offset === 0 ? 0 : offset + 1, -3);
    for (const [how, text] of [
      ['base64url', inner],
      ['base64', inner.replaceAll('-', '+').replaceAll('_', '/')],
    ] as const) {
      if (text.length >= 6) forms.push({ how, form: text });
    }
  }
  return forms;
}
