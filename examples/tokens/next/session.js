// The session of a request, in an encrypted cookie. Your own app has something like it.
import { getIronSession } from "iron-session";
import { cookies } from "next/headers";

export const getSession = async () =>
  getIronSession(await cookies(), {
    password: process.env.SESSION_SECRET,
    cookieName: "session",
    cookieOptions: { secure: process.env.NODE_ENV === "production" },
  });
