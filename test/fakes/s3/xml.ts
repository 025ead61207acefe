const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', '\r': '&#13;', '\n': '&#10;' };
const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

/** One element as text: content is a value to escape, or the elements inside. */
export function element(name: string, content: string | number | boolean | string[]): string {
  const inside = Array.isArray(content) ? content.join('') : escapeText(String(content));
  return `<${name}>${inside}</${name}>`;
}

/** The elements that have a value; those that are undefined are left out. */
export function elements(values: Record<string, string | number | boolean | undefined>): string[] {
  return Object.entries(values).flatMap(([name, value]) => (value === undefined ? [] : [element(name, value)]));
}

/** A whole answer: the declaration and S3's namespace on the root element. */
export function xmlDocument(root: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n${root.startsWith('<Error>') ? root : root.replace('>', ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/">')}`;
}

function escapeText(value: string): string {
  return value.replace(/[&<>"\r\n]/g, (sign) => escapes[sign] ?? sign);
}

/** An element that was read. */
export interface XmlNode {
  name: string;
  text: string;
  children: XmlNode[];
}

/** The root element of a request's body (no namespaces, no attributes: S3 needs none), or undefined when it is not well formed. */
export function parseXml(source: string): XmlNode | undefined {
  const top: XmlNode = { name: '', text: '', children: [] };
  const open: XmlNode[] = [top];
  const token = /<\?[^>]*\?>|<!--[\s\S]*?-->|<(\/?)([\w.:-]+)(?:\s[^>]*?)?(\/?)>|([^<]+)/gy;
  let end = 0;
  for (const [all, closing, name = '', empty, text] of source.matchAll(token)) {
    end += all.length;
    const current = open.at(-1)!;
    if (text !== undefined) current.text += unescapeText(text);
    else if (closing) {
      if (open.length === 1 || current.name !== name) return undefined;
      open.pop();
    } else if (name) {
      const node = { name, text: '', children: [] };
      current.children.push(node);
      if (!empty) open.push(node);
    }
  }
  return end === source.length && open.length === 1 && top.children.length === 1 ? top.children[0] : undefined;
}

function unescapeText(text: string): string {
  return text.replace(/&(?:#x([\da-f]+)|#(\d+)|(\w+));/gi, (all, hex?: string, decimal?: string, name?: string) =>
    name ? (entities[name] ?? all) : String.fromCodePoint(hex ? Number.parseInt(hex, 16) : Number(decimal)),
  );
}

/** The children of that name. */
export function all(node: XmlNode, name: string): XmlNode[] {
  return node.children.filter((child) => child.name === name);
}

/** The text of the first child of that name. */
export function textOf(node: XmlNode, name: string): string | undefined {
  return node.children.find((child) => child.name === name)?.text;
}
