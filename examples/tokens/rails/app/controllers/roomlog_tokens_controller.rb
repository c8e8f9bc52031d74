# Signs a token for the user of the session. Needs `gem "jwt"`, and in config/routes.rb:
#
#   get "roomlog-token", to: "roomlog_tokens#show"
class RoomlogTokensController < ApplicationController
  def show
    user = session[:user] or return head :unauthorized
    now = Time.now.to_i
    claims = {
      sub: user,
      iat: now,
      exp: now + 15 * 60,
      rooms: { "chat.*" => %w[read write], "user.#{user}.*" => %w[read] }
    }
    response.headers["Cache-Control"] = "no-store"
    render json: { token: JWT.encode(claims, ENV.fetch("ROOMLOG_AUTH__HS256_SECRET"), "HS256") }
  end
end
