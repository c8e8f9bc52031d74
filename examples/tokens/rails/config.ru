# A Rails app in one file, for trying the controller: puma -b tcp://127.0.0.1:3000
require "action_controller/railtie"
require "jwt"

class App < Rails::Application
  config.load_defaults 6.1
  config.root = __dir__
  config.eager_load = false
  config.secret_key_base = ENV.fetch("SESSION_SECRET")
  config.session_store :cookie_store, key: "session"
  config.logger = Logger.new($stderr)
  config.hosts.clear
end

App.initialize!

class ApplicationController < ActionController::Base
end

# In place of your own login.
class SessionsController < ApplicationController
  skip_forgery_protection

  def create
    session[:user] = params.require(:user)
    head :no_content
  end
end

App.routes.draw do
  post "login", to: "sessions#create"
  get "roomlog-token", to: "roomlog_tokens#show"
end
run App
