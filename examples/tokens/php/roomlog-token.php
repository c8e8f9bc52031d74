<?php
// Signs a token for the user of the session. A JWT with HS256 needs no library.
function sign_token(array $claims, string $secret): string
{
    $base64url = fn (string $bytes) => rtrim(strtr(base64_encode($bytes), '+/', '-_'), '=');
    $body = $base64url('{"alg":"HS256","typ":"JWT"}') . '.' . $base64url(json_encode($claims, JSON_THROW_ON_ERROR));
    return $body . '.' . $base64url(hash_hmac('sha256', $body, $secret, true));
}

session_start();
$user = $_SESSION['user'] ?? null;
if ($user === null) {
    http_response_code(401);
    exit;
}
$token = sign_token([
    'sub' => $user,
    'iat' => time(),
    'exp' => time() + 15 * 60,
    'rooms' => ['chat.*' => ['read', 'write'], "user.$user.*" => ['read']],
], getenv('ROOMLOG_AUTH__HS256_SECRET'));
header('Cache-Control: no-store');
header('Content-Type: application/json');
echo json_encode(['token' => $token]);
