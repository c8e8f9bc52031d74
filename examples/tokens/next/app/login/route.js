// In place of your own login.
import { getSession } from "../../session";

export async function POST(request) {
  const session = await getSession();
  session.user = request.nextUrl.searchParams.get("user");
  await session.save();
  return new Response(null, { status: 204 });
}
