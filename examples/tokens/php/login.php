<?php
// In place of your own login.
session_start();
$_SESSION['user'] = $_GET['user'];
http_response_code(204);
