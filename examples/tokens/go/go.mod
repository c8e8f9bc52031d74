module example.com/tokens

go 1.18

require (
	github.com/golang-jwt/jwt/v5 v5.2.2
	github.com/gorilla/sessions v1.2.1
)

require github.com/gorilla/securecookie v1.1.1 // indirect
