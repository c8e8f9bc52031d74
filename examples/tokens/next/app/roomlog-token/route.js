// A route handler that signs a token for the user of the session.
import { signToken } from "@roomlog/client/server";
import { getSession } from "../../session";

export async function GET() {
  const { user } = await getSession();
  if (!user) return new Response("log in first", { status: 401 });
  const token = await signToken({
    secret: process.env.ROOMLOG_AUTH__HS256_SECRET,
    user,
    rooms: { "chat.*": ["read", "write"], [`user.${user}.*`]: ["read"] },
    expiresIn: 15 * 60,
  });
  return Response.json({ token }, { headers: { "Cache-Control": "no-store" } });
}
