// A Go service that signs tokens for its users.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/sessions"
)

var store = sessions.NewCookieStore([]byte(os.Getenv("SESSION_SECRET")))

// In place of your own login.
func login(w http.ResponseWriter, r *http.Request) {
	session, _ := store.Get(r, "session")
	session.Values["user"] = r.FormValue("user")
	if err := session.Save(r, w); err != nil {
		http.Error(w, "the session was not saved", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func roomlogToken(w http.ResponseWriter, r *http.Request) {
	session, _ := store.Get(r, "session")
	user, ok := session.Values["user"].(string)
	if !ok {
		http.Error(w, "log in first", http.StatusUnauthorized)
		return
	}
	now := time.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub":   user,
		"iat":   now.Unix(),
		"exp":   now.Add(15 * time.Minute).Unix(),
		"rooms": map[string][]string{"chat.*": {"read", "write"}, "user." + user + ".*": {"read"}},
	}).SignedString([]byte(os.Getenv("ROOMLOG_AUTH__HS256_SECRET")))
	if err != nil {
		http.Error(w, "the token was not signed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"token": token})
}

func main() {
	http.HandleFunc("/login", login)
	http.HandleFunc("/roomlog-token", roomlogToken)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
