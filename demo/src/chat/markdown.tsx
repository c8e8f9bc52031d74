// The text of a message: a small part of Markdown, as React elements. Nothing here makes HTML, so a message cannot either.
import { Fragment } from "react";
import type { ReactNode } from "react";
import { Lexer, Tokenizer } from "marked";
import type { MarkedToken, Token } from "marked";

/** In a chat, these would surprise: `# 1 in the charts`, `1986. A great year.`, an indented line, `<b>`. They stay as they were written. */
class ChatTokenizer extends Tokenizer {
  override code = (): undefined => undefined;
  override heading = (): undefined => undefined;
  override lheading = (): undefined => undefined;
  override hr = (): undefined => undefined;
  override list = (): undefined => undefined;
  override table = (): undefined => undefined;
  override html = (): undefined => undefined;
  override def = (): undefined => undefined;
  override tag = (): undefined => undefined;
}

export function Markdown({ text }: { text: string }): ReactNode {
  return render(new Lexer({ gfm: true, breaks: true, tokenizer: new ChatTokenizer() }).lex(text));
}

const render = (tokens: Token[]): ReactNode => tokens.map((token, i) => <Fragment key={i}>{element(token as MarkedToken)}</Fragment>);

function element(token: MarkedToken): ReactNode {
  switch (token.type) {
    case "paragraph":
      return <p dir="auto">{render(token.tokens)}</p>;
    case "blockquote":
      // Its text decides on its direction, which it would not see in a paragraph with a direction of its own.
      return <blockquote dir="auto">{token.tokens.map((inner, i) => <Fragment key={i}>{inner.type === "paragraph" ? <p>{render(inner.tokens ?? [])}</p> : element(inner as MarkedToken)}</Fragment>)}</blockquote>;
    case "code":
      return <pre dir="ltr" tabIndex={0}><code>{token.text}</code></pre>;
    case "codespan":
      return <code>{token.text}</code>;
    case "strong":
      return <strong>{render(token.tokens)}</strong>;
    case "em":
      return <em>{render(token.tokens)}</em>;
    case "del":
      return <del>{render(token.tokens)}</del>;
    case "br":
      // The style sheet keeps line breaks, and so does the clipboard.
      return "\n";
    case "link":
      return isSafe(token.href) ? <a href={token.href} target="_blank" rel="noopener noreferrer nofollow">{render(token.tokens)}</a> : token.raw;
    case "image":
      // The page loads nothing from elsewhere.
      return isSafe(token.href) ? <a href={token.href} target="_blank" rel="noopener noreferrer nofollow">{token.text || token.href}</a> : token.raw;
    case "space":
      return <span className="space">{token.raw}</span>;
    case "escape":
      return token.text;
    case "text":
      return token.tokens ? render(token.tokens) : token.text;
    default:
      return token.raw;
  }
}

const isSafe = (href: string): boolean => /^(?:https?:\/\/|mailto:)/i.test(href) && URL.canParse(href);

/** One to three emoji, and nothing else. */
const EMOJI = /^(?:\p{RGI_Emoji}\s?){1,3}$/v;

export const isLoneEmoji = (text: string): boolean => text.length < 60 && EMOJI.test(text.trim());

/** Text that takes more room than this is folded. */
const LONG = { characters: 1400, lines: 20 };

export const isLong = (text: string): boolean => text.length > LONG.characters || text.split("\n", LONG.lines + 1).length > LONG.lines;
