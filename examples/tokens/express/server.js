// An Express app that signs tokens for its users.
import { signToken } from "@roomlog/client/server";
import express from "express";
import session from "express-session";

const app = express();
app.use(session({ secret: process.env.SESSION_SECRET, resave: false, saveUninitialized: false }));

// In place of your own login.
app.post("/login", (request, response) => {
  request.session.user = request.query.user;
  response.sendStatus(204);
});

app.get("/roomlog-token", async (request, response) => {
  const { user } = request.session;
  if (!user) return response.sendStatus(401);
  const token = await signToken({
    secret: process.env.ROOMLOG_AUTH__HS256_SECRET,
    user,
    rooms: { "chat.*": ["read", "write"], [`user.${user}.*`]: ["read"] },
    expiresIn: 15 * 60,
  });
  response.set("Cache-Control", "no-store").json({ token });
});

app.listen(process.env.PORT ?? 3000, "127.0.0.1");
